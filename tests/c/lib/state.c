/* A library with state of its own, beside that of what needs it. */
int state_bump(void);

int state_bump(void)
{
    static int count;
    return ++count;
}
