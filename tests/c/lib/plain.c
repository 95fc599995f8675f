/* A library with every kind of thing that a private image must get right: writable
 * data, zeroed data, data that relocations write, thread-local data, constructors of
 * both kinds, a destructor, calls and addresses of functions that can be hooked, and a
 * dependency. */
#include <stdlib.h>
#include <unistd.h>

extern int state_bump(void);

enum { PAGES = 16, PAGE_BYTES = 4096 };

/* Pages that relocation does not touch, and one that it does. */
static char filled[PAGES * PAGE_BYTES] = "filled";
static char zeroed[PAGES * PAGE_BYTES];
static char *pointer = filled;
static pid_t (*const table[])(void) = {getppid, NULL};
static pid_t (*volatile writable_table[])(void) = {getppid};
static __thread int per_thread = 7;

static int constructions, initialised;
int *plain_destructions;

int plain_bump(void);
int plain_state_bump(void);
int plain_thread_bump(void);
int plain_constructions(void);
int plain_initialised(void);
int plain_data_is_new(void);
void plain_spoil_data(void);
pid_t plain_call(void);
pid_t plain_call_table(void);
pid_t plain_call_address(void);
const void *plain_text(void);

void plain_legacy_init(void);
void plain_legacy_init(void)
{
    initialised++;
}

__attribute__((constructor)) static void construct(int count, char **values)
{
    if (count > 0 && values != NULL && values[count] == NULL) {
        constructions++;
    }
}

__attribute__((destructor)) static void destruct(void)
{
    if (plain_destructions != NULL) {
        (*plain_destructions)++;
    }
}

int plain_bump(void)
{
    static int count = 100;
    return ++count;
}

int plain_state_bump(void)
{
    return state_bump();
}

int plain_thread_bump(void)
{
    return ++per_thread;
}

int plain_constructions(void)
{
    return constructions;
}

int plain_initialised(void)
{
    return initialised;
}

int plain_data_is_new(void)
{
    if (pointer != filled || filled[0] != 'f') {
        return 0;
    }
    for (int i = 0; i < PAGES; i++) {
        if (zeroed[i * PAGE_BYTES] != 0 || filled[i * PAGE_BYTES + 100] != 0) {
            return 0;
        }
    }
    return 1;
}

void plain_spoil_data(void)
{
    for (int i = 0; i < PAGES; i++) {
        zeroed[i * PAGE_BYTES] = 1;
        filled[i * PAGE_BYTES + 100] = 1;
    }
    pointer = zeroed;
}

pid_t plain_call(void)
{
    return getppid();
}

pid_t plain_call_table(void)
{
    return table[0]() == writable_table[0]() ? table[0]() : -1;
}

pid_t plain_call_address(void)
{
    pid_t (*volatile function)(void) = getppid;
    return function();
}

const void *plain_text(void)
{
    return (const void *)plain_bump;
}
