/* The list of interpreters; see runtime.h. */
#include "interp/runtime.h"

#include "base/memory.h"

static struct {
    pthread_mutex_t lock;
    at_interpreter *first;              /* guarded: lock */
    size_t count;                       /* guarded: lock */
    bool stopped;                       /* guarded: lock */
    PyModuleDef *module;                /* fixed before the first interpreter */
    const at_message_binding *messages; /* fixed before the first interpreter */
    char *module_file;                  /* fixed before the first interpreter */
} at_runtime = {.lock = PTHREAD_MUTEX_INITIALIZER};

bool at_runtime_add(at_interpreter *interpreter)
{
    at_interpreter_ref(interpreter);
    (void)pthread_mutex_lock(&at_runtime.lock);
    bool taken = !at_runtime.stopped;
    if (taken) {
        at_interpreter **end = &at_runtime.first;
        while (*end != NULL) {
            end = &(*end)->next;
        }
        interpreter->next = NULL;
        *end = interpreter;
        at_runtime.count++;
    }
    (void)pthread_mutex_unlock(&at_runtime.lock);
    if (!taken) {
        at_interpreter_unref(interpreter);
    }
    return taken;
}

void at_runtime_remove(at_interpreter *interpreter)
{
    at_interpreter *found = NULL;
    (void)pthread_mutex_lock(&at_runtime.lock);
    for (at_interpreter **link = &at_runtime.first; *link != NULL;
         link = &(*link)->next) {
        if (*link == interpreter) {
            found = interpreter;
            *link = interpreter->next;
            at_runtime.count--;
            break;
        }
    }
    (void)pthread_mutex_unlock(&at_runtime.lock);
    at_interpreter_unref(found);
}

at_interpreter *at_runtime_find(int64_t id)
{
    (void)pthread_mutex_lock(&at_runtime.lock);
    at_interpreter *found = at_runtime.first;
    while (found != NULL && found->id != id) {
        found = found->next;
    }
    at_interpreter_ref(found);
    (void)pthread_mutex_unlock(&at_runtime.lock);
    return found;
}

size_t at_runtime_list(at_interpreter **interpreters, size_t capacity)
{
    (void)pthread_mutex_lock(&at_runtime.lock);
    size_t count = 0;
    for (at_interpreter *each = at_runtime.first; each != NULL; each = each->next) {
        if (count < capacity) {
            interpreters[count] = at_interpreter_ref(each);
        }
        count++;
    }
    (void)pthread_mutex_unlock(&at_runtime.lock);
    return count;
}

size_t at_runtime_count(void)
{
    (void)pthread_mutex_lock(&at_runtime.lock);
    size_t count = at_runtime.count;
    (void)pthread_mutex_unlock(&at_runtime.lock);
    return count;
}

void at_runtime_stop(void)
{
    (void)pthread_mutex_lock(&at_runtime.lock);
    at_runtime.stopped = true;
    (void)pthread_mutex_unlock(&at_runtime.lock);
}

int at_runtime_set_module(PyModuleDef *definition, const char *file)
{
    if (at_runtime.module_file != NULL) {
        return 0;
    }
    at_runtime.module_file = at_strdup(file);
    at_runtime.module = definition;
    return at_runtime.module_file != NULL ? 0 : AT_ENOMEM;
}

PyModuleDef *at_runtime_module(const char **file)
{
    *file = at_runtime.module_file;
    return at_runtime.module;
}

void at_runtime_set_messages(const at_message_binding *binding)
{
    at_runtime.messages = binding;
}

const at_message_binding *at_runtime_messages(void)
{
    return at_runtime.messages;
}
