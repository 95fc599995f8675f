/* Uses a function and data of libstate.so, which it does not name as needed. */
int state_bump(void);
extern int state_count;
int silent_bump(void);
int silent_state(void);

int silent_bump(void)
{
    return state_bump();
}

int silent_state(void)
{
    return state_count;
}
