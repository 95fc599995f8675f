/* Writes something once for each number, where a table of functions is needed and C has
 * no closures. Numbers are octal with a leading 0, which pasting makes a C constant:
 * DO(000) to DO(777). */
#ifndef AT_BASE_EACH_H
#define AT_BASE_EACH_H

#define AT_EACH_8(DO, n)                                                               \
    DO(n##0) DO(n##1) DO(n##2) DO(n##3) DO(n##4) DO(n##5) DO(n##6) DO(n##7)
#define AT_EACH_64(DO, n)                                                              \
    AT_EACH_8(DO, n##0)                                                                \
    AT_EACH_8(DO, n##1)                                                                \
    AT_EACH_8(DO, n##2)                                                                \
    AT_EACH_8(DO, n##3)                                                                \
    AT_EACH_8(DO, n##4)                                                                \
    AT_EACH_8(DO, n##5)                                                                \
    AT_EACH_8(DO, n##6)                                                                \
    AT_EACH_8(DO, n##7)
#define AT_EACH_512(DO)                                                                \
    AT_EACH_64(DO, 0)                                                                  \
    AT_EACH_64(DO, 1)                                                                  \
    AT_EACH_64(DO, 2)                                                                  \
    AT_EACH_64(DO, 3)                                                                  \
    AT_EACH_64(DO, 4)                                                                  \
    AT_EACH_64(DO, 5)                                                                  \
    AT_EACH_64(DO, 6)                                                                  \
    AT_EACH_64(DO, 7)

#endif
