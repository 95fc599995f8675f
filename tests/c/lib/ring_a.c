/* Needs ring_b, which needs this one. */
int ring_b(void);
int ring_a(void);
int ring_a_through_b(void);
static int count;

int ring_a(void)
{
    return ++count;
}

int ring_a_through_b(void)
{
    return ring_b();
}
