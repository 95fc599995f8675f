/* C++'s `inline static int`, as GCC writes it: weak code, a unique symbol. Built twice,
 * as two libraries that share the variable within a process, and so within a space. */
__asm__(".pushsection .data\n"
        ".globl unique_value\n"
        ".type unique_value, %gnu_unique_object\n"
        ".size unique_value, 4\n"
        ".p2align 2\n"
        "unique_value: .4byte 5\n"
        ".popsection\n");
extern int unique_value;

#define JOIN(a, b) a##b
#define NAME(a, b) JOIN(a, b)

int *NAME(UNIQUE_PREFIX, _address)(void);
int *NAME(UNIQUE_PREFIX, _address)(void)
{
    int *volatile address = &unique_value;
    return address;
}
