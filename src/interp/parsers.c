/* Off the list of argument parsers; see parsers.h.
 *
 * The head of the list is in _PyRuntime, where only CPython knows it. But every parser
 * points to the one that was put on before it. So a parser of ours, put on now, leads
 * to all that matter; the one put on the last time is taken off meanwhile.
 *
 * CPython only ever puts at the head, with one compare-and-swap. What hangs behind our
 * parser is changed by nobody else, and `lock` keeps two of us apart. It is held while
 * the list is walked: who takes his parsers off under it unmaps them afterwards.
 */
#include "interp/parsers.h"

#include <Python.h>
#include <pthread.h>
#include <string.h>

static struct {
    pthread_mutex_t lock;
    _PyArg_Parser marks[2]; /* guarded: lock; at most one is on the list */
    int current;            /* guarded: lock; of marks */
} parsers = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* Put `mark` on the list, as any function does with its parser. It takes no arguments
 * and owns nothing: an empty tuple is immortal and static, so that neither this nor
 * CPython's own walk at its end counts references to it. */
static bool put_on(_PyArg_Parser *mark)
{
    static const char *const no_keywords[] = {NULL};
    PyObject *no_arguments = PyTuple_New(0);
    memset(mark, 0, sizeof *mark);
    mark->format = "";
    mark->keywords = no_keywords;
    mark->kwtuple = no_arguments;
    return no_arguments != NULL &&
           _PyArg_ParseTupleAndKeywordsFast(no_arguments, NULL, mark);
}

void at_parsers_forget(const at_image_space *space)
{
    pthread_mutex_lock(&parsers.lock);
    _PyArg_Parser *old = &parsers.marks[parsers.current];
    parsers.current = !parsers.current;
    _PyArg_Parser *mark = &parsers.marks[parsers.current];
    if (put_on(mark)) {
        _PyArg_Parser **link = &mark->next;
        while (*link != NULL) {
            _PyArg_Parser *parser = *link;
            if (parser == old || at_image_space_holds(space, parser)) {
                *link = parser->next;
            } else {
                link = &parser->next;
            }
        }
    }
    pthread_mutex_unlock(&parsers.lock);
}
