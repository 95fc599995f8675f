/* A plain library with state; opened by ctypes, and needed by counting_user. */
static long counter;

__attribute__((visibility("default"))) long counting_add(void);

long counting_add(void)
{
    return ++counter;
}
