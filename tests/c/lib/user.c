/* Calls what it does not need by name: somebody must have opened it RTLD_GLOBAL. */
int plain_bump(void);
int user_bump(void);
int user_bump(void)
{
    return plain_bump();
}
