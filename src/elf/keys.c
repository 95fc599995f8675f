/* Keys of images; see keys.h.
 *
 * A destructor of an image is not given to the C library itself, but one of a table of
 * functions of ours, which knows its place in the table and looks up there whether the
 * destructor is still to be called. `lock` guards the tables; nothing is called under
 * it.
 */
#include "elf/keys.h"

#include <limits.h>
#include <string.h>
#include <threads.h>

#include "base/each.h"
#include "elf/space.h"

enum { PLACES = 512 };

typedef void (*key_destructor)(void *value);

/* A destructor of an image. Free when it has no owner and does not run. */
typedef struct place {
    uint64_t owner;
    pthread_key_t key;
    key_destructor destructor; /* NULL: not to be called any more */
    unsigned running;
} place;

static struct {
    pthread_mutex_t lock;
    uint64_t owners[PTHREAD_KEYS_MAX]; /* guarded: lock; 0 for none */
    place places[PLACES];              /* guarded: lock */
} keys = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* ---- destructors ---------------------------------------------------------------- */

static void destroy(size_t number, void *value)
{
    place *here = &keys.places[number];
    pthread_mutex_lock(&keys.lock);
    key_destructor destructor = here->destructor;
    here->running += destructor != NULL;
    pthread_mutex_unlock(&keys.lock);
    if (destructor != NULL) {
        destructor(value);
        pthread_mutex_lock(&keys.lock);
        here->running--;
        pthread_mutex_unlock(&keys.lock);
    }
}

#define DEFINE(n)                                                                      \
    static void destroy_##n(void *value)                                               \
    {                                                                                  \
        destroy(0##n, value);                                                          \
    }
#define ROW(n) destroy_##n,

// clang-format off
AT_EACH_512(DEFINE)

static const key_destructor trampolines[] = {AT_EACH_512(ROW)};
// clang-format on

_Static_assert(sizeof trampolines / sizeof trampolines[0] == PLACES, "one a place");

/* A free place, taken, or PLACES. The lock is held. */
static size_t take_place(uint64_t owner, key_destructor destructor)
{
    size_t number = 0;
    while (number < PLACES &&
           (keys.places[number].owner != 0 || keys.places[number].running != 0)) {
        number++;
    }
    if (number < PLACES) {
        keys.places[number] =
            (place){.owner = owner, .key = PTHREAD_KEYS_MAX, .destructor = destructor};
    }
    return number;
}

static void leave_place(place *here)
{
    here->owner = 0;
    here->destructor = NULL;
}

/* ---- what images call ----------------------------------------------------------- */

static void set_owner(pthread_key_t key, uint64_t owner)
{
    if (key < PTHREAD_KEYS_MAX) {
        pthread_mutex_lock(&keys.lock);
        keys.owners[key] = owner;
        pthread_mutex_unlock(&keys.lock);
    }
}

void at_key_add(const void *caller, pthread_key_t key)
{
    const uint64_t owner = at_image_owner_at(caller);
    if (owner != 0) {
        set_owner(key, owner);
    }
}

void at_key_remove(pthread_key_t key)
{
    pthread_mutex_lock(&keys.lock);
    if (key < PTHREAD_KEYS_MAX) {
        keys.owners[key] = 0;
    }
    for (size_t i = 0; i < PLACES; i++) {
        if (keys.places[i].owner != 0 && keys.places[i].key == key) {
            leave_place(&keys.places[i]);
        }
    }
    pthread_mutex_unlock(&keys.lock);
}

/* What pthread_key_create returns, for code of a space. */
static int create_armed(pthread_key_t *key, key_destructor destructor, uint64_t owner)
{
    pthread_mutex_lock(&keys.lock);
    const size_t number = take_place(owner, destructor);
    pthread_mutex_unlock(&keys.lock);
    if (number == PLACES) {
        (void)at_image_pin((const void *)destructor); /* called whenever, so it stays */
        return pthread_key_create(key, destructor);
    }
    int result = pthread_key_create(key, trampolines[number]);
    pthread_mutex_lock(&keys.lock);
    if (result == 0) {
        keys.places[number].key = *key;
    } else {
        leave_place(&keys.places[number]);
    }
    pthread_mutex_unlock(&keys.lock);
    return result;
}

static int create_for(const void *caller, pthread_key_t *key, key_destructor destructor)
{
    const uint64_t owner = at_image_owner_at(caller);
    int result = owner != 0 && destructor != NULL ? create_armed(key, destructor, owner)
                                                  : pthread_key_create(key, destructor);
    if (result == 0 && owner != 0) {
        set_owner(*key, owner);
    }
    return result;
}

static int create_key(pthread_key_t *key, key_destructor destructor)
{
    return create_for(__builtin_return_address(0), key, destructor);
}

static int delete_key(pthread_key_t key)
{
    at_key_remove(key);
    return pthread_key_delete(key);
}

/* The keys of <threads.h> are the same ones. */
static int create_tss(tss_t *key, tss_dtor_t destructor)
{
    return create_for(__builtin_return_address(0), key, destructor) == 0 ? thrd_success
                                                                         : thrd_error;
}

static void delete_tss(tss_t key)
{
    (void)delete_key(key);
}

static const struct {
    const char *symbol;
    void *function;
} replacements[] = {
    {"pthread_key_create", (void *)create_key},
    {"pthread_key_delete", (void *)delete_key},
    {"tss_create", (void *)create_tss},
    {"tss_delete", (void *)delete_tss},
};

void *at_key_replacement(const char *symbol)
{
    for (size_t i = 0; i < sizeof replacements / sizeof replacements[0]; i++) {
        if (strcmp(symbol, replacements[i].symbol) == 0) {
            return replacements[i].function;
        }
    }
    return NULL;
}

/* ---- the end -------------------------------------------------------------------- */

bool at_keys_disarm(uint64_t owner)
{
    bool is_quiet = true;
    pthread_mutex_lock(&keys.lock);
    for (size_t i = 0; i < PLACES; i++) {
        if (keys.places[i].owner == owner) {
            keys.places[i].destructor = NULL;
            is_quiet &= keys.places[i].running == 0;
        }
    }
    pthread_mutex_unlock(&keys.lock);
    return is_quiet;
}

/* A key of the owner, not its own any more. */
static bool take_key(uint64_t owner, pthread_key_t *key)
{
    pthread_mutex_lock(&keys.lock);
    while (*key < PTHREAD_KEYS_MAX && keys.owners[*key] != owner) {
        ++*key;
    }
    const bool found = *key < PTHREAD_KEYS_MAX;
    if (found) {
        keys.owners[*key] = 0;
    }
    pthread_mutex_unlock(&keys.lock);
    return found;
}

void at_keys_end(uint64_t owner, bool give_back)
{
    pthread_key_t key = 0;
    while (take_key(owner, &key)) {
        if (give_back) {
            (void)delete_key(key);
        }
    }
}
