/* A library with state of its own, beside that of what needs it. */
extern int state_count;
int state_bump(void);

int state_count;

int state_bump(void)
{
    return ++state_count;
}
