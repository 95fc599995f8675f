/* Opens itself in its constructor, as libtbbmalloc does, and others when asked. */
#include <dlfcn.h>
#include <stddef.h>

static int constructions;
static void *myself;

int opener_constructions(void);
void *opener_myself(void);
void *opener_open(const char *name, int flags);

__attribute__((constructor)) static void construct(void)
{
    constructions++;
    myself = dlopen("libopener.so", RTLD_NOW);
}

int opener_constructions(void)
{
    return constructions;
}

void *opener_myself(void)
{
    return myself;
}

void *opener_open(const char *name, int flags)
{
    void *volatile handle =
        dlopen(name, flags); /* not a tail call: the caller counts */
    return handle;
}
