/* Needs libsilent.so, and libstate.so, which that one uses without a word. */
int state_bump(void);
int silent_bump(void);
int silent_state(void);
int silent_user_bump(void);
int silent_user_bump_silently(void);
int silent_user_state(void);

int silent_user_bump(void)
{
    return state_bump();
}

int silent_user_bump_silently(void)
{
    return silent_bump();
}

int silent_user_state(void)
{
    return silent_state();
}
