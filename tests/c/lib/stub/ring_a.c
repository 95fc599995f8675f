/* What ring_b is linked against, before there is a ring_a. */
int ring_a(void);
int ring_a(void)
{
    return 0;
}
