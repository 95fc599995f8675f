/* Needs ring_a, which needs this one. */
int ring_a(void);
int ring_b(void);
int ring_b(void)
{
    return ring_a() + 1000;
}
