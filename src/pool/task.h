/* A task of a pool, and the lists that tasks wait in.
 *
 * A list has no lock of its own: whoever owns it says which one guards it.
 */
#ifndef AT_POOL_TASK_H
#define AT_POOL_TASK_H

#include <stdbool.h>
#include <stdint.h>

#include "chan/message.h"

typedef enum at_outcome {
    AT_OUTCOME_VALUE,     /* `result` is what the call returned */
    AT_OUTCOME_ERROR,     /* `result` tells of what it raised */
    AT_OUTCOME_CANCELLED, /* it never began */
    AT_OUTCOME_NOTICE,    /* no task: a word from a worker */
    AT_OUTCOME_REFUSED,   /* `result` tells why the value cannot leave the worker */
} at_outcome;

typedef struct at_task {
    struct at_task *next; /* guarded: the lock of the list that it is in */
    uint64_t id;          /* from 1; 0: a notice */
    at_message *payload;  /* a reference, or NULL: the owner knows by the id */
    at_message *result;   /* a reference, or NULL */
    at_outcome outcome;
    bool pinned;         /* for one worker alone */
    unsigned worker;     /* who ran it */
    unsigned generation; /* which one of that number */
} at_task;

/* ctx: any; frees one task, not those behind it */
void at_task_free(at_task *task);

typedef struct at_task_list {
    at_task *first;
    at_task **last;
} at_task_list;

/* All of these: ctx: any, under the list's lock. A list owns what is in it. */
void at_task_list_init(at_task_list *list);
void at_task_list_fini(at_task_list *list);
void at_task_list_push(at_task_list *list, at_task *task);
/* Before all others. */
void at_task_list_push_first(at_task_list *list, at_task *task);
/* The first one, or NULL. */
at_task *at_task_list_pop(at_task_list *list);
/* The one of this number, or NULL. */
at_task *at_task_list_remove(at_task_list *list, uint64_t id);

#endif
