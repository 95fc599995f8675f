/* The memo of a packer; see memo.h. */
#define PY_SSIZE_T_CLEAN
#include "parcel/memo.h"

#include <string.h>

#include "base/memory.h"

void at_memo_init(at_memo *memo)
{
    memo->slots = NULL;
    memo->mask = AT_MEMO_FIRST_SLOTS - 1;
    memo->count = 0;
}

void at_memo_fini(at_memo *memo)
{
    for (size_t i = 0; memo->slots == NULL && i < memo->count; i++) {
        Py_DECREF(memo->list[i]);
    }
    for (size_t i = 0; memo->slots != NULL && i <= memo->mask; i++) {
        Py_XDECREF(memo->slots[i].object);
    }
    if (memo->slots != memo->first) {
        at_free(memo->slots);
    }
    at_memo_init(memo);
}

static at_memo_slot *slot_of(at_memo_slot *slots, size_t mask, PyObject *object)
{
    size_t position = ((uintptr_t)object >> 4) * 0x9E3779B97F4A7C15u >> 20;
    for (;; position++) {
        at_memo_slot *slot = &slots[position & mask];
        if (slot->object == object || slot->object == NULL) {
            return slot;
        }
    }
}

Py_ssize_t at_memo_find(const at_memo *memo, PyObject *object)
{
    if (memo->slots == NULL) {
        for (size_t i = 0; i < memo->count; i++) {
            if (memo->list[i] == object) {
                return (Py_ssize_t)i;
            }
        }
        return -1;
    }
    const at_memo_slot *slot = slot_of(memo->slots, memo->mask, object);
    return slot->object != NULL ? (Py_ssize_t)slot->number : -1;
}

/* From the list to the first table. */
static void memo_spread(at_memo *memo)
{
    memset(memo->first, 0, sizeof memo->first);
    memo->slots = memo->first;
    for (size_t i = 0; i < memo->count; i++) {
        *slot_of(memo->slots, memo->mask, memo->list[i]) =
            (at_memo_slot){memo->list[i], i};
    }
}

static int memo_grow(at_memo *memo)
{
    size_t slot_count = (memo->mask + 1) * 4;
    at_memo_slot *slots = at_calloc(slot_count, sizeof *slots);
    if (slots == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (size_t i = 0; i <= memo->mask; i++) {
        if (memo->slots[i].object != NULL) {
            *slot_of(slots, slot_count - 1, memo->slots[i].object) = memo->slots[i];
        }
    }
    if (memo->slots != memo->first) {
        at_free(memo->slots);
    }
    memo->slots = slots;
    memo->mask = slot_count - 1;
    return 0;
}

int at_memo_add(at_memo *memo, PyObject *object)
{
    if (memo->slots == NULL) {
        if (memo->count < AT_MEMO_LIST) {
            memo->list[memo->count++] = Py_NewRef(object);
            return 0;
        }
        memo_spread(memo);
    } else if (memo->count * 3 >= (memo->mask + 1) * 2 && memo_grow(memo) < 0) {
        return -1;
    }
    at_memo_slot *slot = slot_of(memo->slots, memo->mask, object);
    slot->object = Py_NewRef(object);
    slot->number = memo->count++;
    return 0;
}
