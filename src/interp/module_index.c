/* Indices of module definitions; see module_index.h.
 *
 * CPython numbers the definitions of the process, and an interpreter's list of modules
 * is as long as the greatest number in it. Each image brings its definitions anew, so
 * the lists would grow for ever in a process whose interpreters come and go. But the
 * lists belong to interpreters, and an interpreter has one image of a library: so the
 * definition at one place of a library has one number, whoever's image it is in.
 */
#include "interp/module_index.h"

#include <pthread.h>

#include "base/memory.h"
#include "elf/image.h"

typedef struct known_def {
    struct known_def *next;
    const char *path; /* of the library: the registry's, alive as long as the process */
    uintptr_t place;  /* in the library */
    Py_ssize_t index;
} known_def;

enum { BUCKETS = 256 };

static struct {
    pthread_mutex_t lock;
    known_def *buckets[BUCKETS]; /* guarded: lock */
} definitions = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* The index of the definition at this place: `index`, if it is the first that is seen
 * of it, or if memory is short. */
static Py_ssize_t index_of(const char *path, uintptr_t place, Py_ssize_t index)
{
    known_def *added = at_calloc(1, sizeof *added);
    pthread_mutex_lock(&definitions.lock);
    known_def **bucket =
        &definitions
             .buckets[(place / sizeof(PyModuleDef) ^ (uintptr_t)path / 64) % BUCKETS];
    const known_def *known = *bucket;
    while (known != NULL && (known->path != path || known->place != place)) {
        known = known->next;
    }
    if (known != NULL) {
        index = known->index;
    } else if (added != NULL) {
        *added = (known_def){*bucket, path, place, index};
        *bucket = added;
        added = NULL;
    }
    pthread_mutex_unlock(&definitions.lock);
    at_free(added);
    return index;
}

PyObject *at_module_def_init(PyModuleDef *def)
{
    const bool is_new = def->m_base.m_index == 0;
    PyObject *result = PyModuleDef_Init(def);
    uintptr_t place;
    const char *path =
        is_new && result != NULL ? at_image_library_at(def, &place) : NULL;
    if (path != NULL) {
        def->m_base.m_index = index_of(path, place, def->m_base.m_index);
    }
    return result;
}
