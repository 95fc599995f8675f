/* Tasks and lists of them; see task.h. */
#include "pool/task.h"

#include "base/memory.h"

void at_task_list_init(at_task_list *list)
{
    list->first = NULL;
    list->last = &list->first;
}

void at_task_list_push(at_task_list *list, at_task *task)
{
    task->next = NULL;
    *list->last = task;
    list->last = &task->next;
}

void at_task_list_push_first(at_task_list *list, at_task *task)
{
    task->next = list->first;
    if (list->first == NULL) {
        list->last = &task->next;
    }
    list->first = task;
}

at_task *at_task_list_pop(at_task_list *list)
{
    at_task *task = list->first;
    if (task != NULL) {
        list->first = task->next;
        if (list->first == NULL) {
            list->last = &list->first;
        }
        task->next = NULL;
    }
    return task;
}

at_task *at_task_list_remove(at_task_list *list, uint64_t id)
{
    for (at_task **place = &list->first; *place != NULL; place = &(*place)->next) {
        at_task *task = *place;
        if (task->id == id) {
            *place = task->next;
            if (*place == NULL) {
                list->last = place;
            }
            task->next = NULL;
            return task;
        }
    }
    return NULL;
}

void at_task_free(at_task *task)
{
    at_message_unref(task->payload);
    at_message_unref(task->result);
    at_free(task);
}

void at_task_list_fini(at_task_list *list)
{
    at_task *task;
    while ((task = at_task_list_pop(list)) != NULL) {
        at_task_free(task);
    }
}
