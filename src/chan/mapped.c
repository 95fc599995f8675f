/* The table of what is mapped; see mapped.h. */
#include "chan/mapped.h"

#include <pthread.h>
#include <string.h>

enum { BUCKETS = 256 }; /* a power of two */

static struct {
    pthread_mutex_t mutex;
    bool watches_fork;         /* guarded: mutex, as the next */
    at_mapped *first[BUCKETS]; /* by identity */
} mapped = {.mutex = PTHREAD_MUTEX_INITIALIZER};

static void before_fork(void)
{
    (void)pthread_mutex_lock(&mapped.mutex);
}

static void after_fork(void)
{
    (void)pthread_mutex_unlock(&mapped.mutex);
}

static at_mapped **bucket_of(const at_memfd *memory)
{
    /* The kernel numbers files of memory one after the other. */
    return &mapped.first[memory->identity[1] % BUCKETS];
}

/* Caller holds the mutex. */
static at_shared *find_locked(at_mapped_family family, const at_memfd *memory)
{
    for (at_mapped *one = *bucket_of(memory); one != NULL; one = one->next) {
        if (one->family == family &&
            memcmp(one->identity, memory->identity, sizeof one->identity) == 0 &&
            at_shared_try_ref(one->thing)) {
            return one->thing;
        }
    }
    return NULL;
}

at_shared *at_mapped_find(at_mapped_family family, const at_memfd *memory)
{
    (void)pthread_mutex_lock(&mapped.mutex);
    at_shared *found = find_locked(family, memory);
    (void)pthread_mutex_unlock(&mapped.mutex);
    return found;
}

at_shared *at_mapped_enter(at_mapped *self, at_mapped_family family,
                           const at_memfd *memory, at_shared *thing)
{
    (void)pthread_mutex_lock(&mapped.mutex);
    if (!mapped.watches_fork) {
        mapped.watches_fork = pthread_atfork(before_fork, after_fork, after_fork) == 0;
    }
    at_shared *found = find_locked(family, memory);
    if (found == NULL) {
        at_mapped **bucket = bucket_of(memory);
        *self = (at_mapped){family, {0}, thing, *bucket, bucket};
        memcpy(self->identity, memory->identity, sizeof self->identity);
        if (self->next != NULL) {
            self->next->link = &self->next;
        }
        *bucket = self;
    }
    (void)pthread_mutex_unlock(&mapped.mutex);
    return found != NULL ? found : thing;
}

void at_mapped_leave(at_mapped *self)
{
    (void)pthread_mutex_lock(&mapped.mutex);
    if (self->thing != NULL) {
        *self->link = self->next;
        if (self->next != NULL) {
            self->next->link = self->link;
        }
        self->thing = NULL;
    }
    (void)pthread_mutex_unlock(&mapped.mutex);
}
