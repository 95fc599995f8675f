/* The table of interpreters that import extensions; see slot.h. */
#include "interp/slot.h"

#include "base/memory.h"
#include "sys/park.h"

#define GATE_CLOSING 0x80000000U
#define GATE_COUNT 0x7fffffffU

at_slot at_slots[AT_SLOT_COUNT];

static pthread_mutex_t table_lock = PTHREAD_MUTEX_INITIALIZER;

at_slot *at_slot_find(int64_t interpreter_id)
{
    at_slot *found = NULL;
    (void)pthread_mutex_lock(&table_lock);
    for (size_t i = 0; i < AT_SLOT_COUNT && found == NULL; i++) {
        at_slot *slot = &at_slots[i];
        if (slot->use == AT_SLOT_LIVE && slot->interpreter_id == interpreter_id) {
            found = slot;
        }
    }
    (void)pthread_mutex_unlock(&table_lock);
    return found;
}

size_t at_slot_list_disowned(int64_t interpreter_ids[AT_SLOT_COUNT])
{
    size_t count = 0;
    (void)pthread_mutex_lock(&table_lock);
    for (size_t i = 0; i < AT_SLOT_COUNT; i++) {
        if (at_slots[i].use == AT_SLOT_LIVE && atomic_load(&at_slots[i].disowned)) {
            interpreter_ids[count++] = at_slots[i].interpreter_id;
        }
    }
    (void)pthread_mutex_unlock(&table_lock);
    return count;
}

bool at_slot_take_disowned(at_slot *slot, int64_t interpreter_id)
{
    (void)pthread_mutex_lock(&table_lock);
    bool taken = slot->use == AT_SLOT_LIVE && slot->interpreter_id == interpreter_id &&
                 atomic_exchange(&slot->disowned, false);
    (void)pthread_mutex_unlock(&table_lock);
    return taken;
}

static void slot_init(at_slot *slot, int64_t interpreter_id,
                      PyInterpreterState *interpreter)
{
    (void)pthread_mutex_init(&slot->lock, NULL);
    slot->interpreter_id = interpreter_id;
    slot->interpreter = interpreter;
    slot->space = NULL;
    slot->anchor = NULL;
    slot->exit_functions = NULL;
    slot->exit_count = slot->exit_capacity = 0;
    slot->blocks = NULL;
    slot->block_count = slot->block_capacity = 0;
    atomic_store_explicit(&slot->disowned, false, memory_order_relaxed);
    atomic_store_explicit(&slot->hung_count, 0, memory_order_relaxed);
    atomic_store_explicit(&slot->gate, 0, memory_order_release);
}

at_slot *at_slot_take(int64_t interpreter_id, PyInterpreterState *interpreter)
{
    at_slot *taken = NULL;
    (void)pthread_mutex_lock(&table_lock);
    for (size_t i = 0; i < AT_SLOT_COUNT && taken == NULL; i++) {
        if (at_slots[i].use == AT_SLOT_FREE) {
            taken = &at_slots[i];
            slot_init(taken, interpreter_id, interpreter);
            taken->use = AT_SLOT_LIVE;
        }
    }
    (void)pthread_mutex_unlock(&table_lock);
    return taken;
}

void at_slot_give(at_slot *slot, bool retire)
{
    if (!retire) {
        for (size_t i = 0; i < slot->block_count; i++) {
            at_free(slot->blocks[i]);
        }
        at_free(slot->blocks);
        at_free(slot->exit_functions);
        (void)pthread_mutex_destroy(&slot->lock);
    }
    (void)pthread_mutex_lock(&table_lock);
    slot->use = retire ? AT_SLOT_RETIRED : AT_SLOT_FREE;
    (void)pthread_mutex_unlock(&table_lock);
}

size_t at_slot_index(const at_slot *slot)
{
    return (size_t)(slot - at_slots);
}

bool at_slot_enter(at_slot *slot)
{
    unsigned gate = atomic_load_explicit(&slot->gate, memory_order_relaxed);
    do {
        if ((gate & GATE_CLOSING) != 0) {
            return false;
        }
    } while (!atomic_compare_exchange_weak_explicit(
        &slot->gate, &gate, gate + 1, memory_order_acquire, memory_order_relaxed));
    return true;
}

void at_slot_leave(at_slot *slot)
{
    unsigned before = atomic_fetch_sub_explicit(&slot->gate, 1, memory_order_acq_rel);
    if (before == (GATE_CLOSING | 1)) {
        at_park_wake(&slot->gate, AT_PARK_ALL, AT_PARK_PRIVATE);
    }
}

bool at_slot_is_closing(const at_slot *slot)
{
    return (atomic_load_explicit(&slot->gate, memory_order_acquire) & GATE_CLOSING) !=
           0;
}

void at_slot_close(at_slot *slot)
{
    (void)atomic_fetch_or_explicit(&slot->gate, GATE_CLOSING, memory_order_acq_rel);
}

size_t at_slot_inside_count(const at_slot *slot)
{
    return atomic_load_explicit(&slot->gate, memory_order_acquire) & GATE_COUNT;
}

size_t at_slot_wait_empty(at_slot *slot, int64_t deadline_ns)
{
    for (;;) {
        unsigned gate = atomic_load_explicit(&slot->gate, memory_order_acquire);
        if ((gate & GATE_COUNT) == 0 || at_park_wait(&slot->gate, gate, deadline_ns,
                                                     AT_PARK_PRIVATE) == AT_ETIMEOUT) {
            return gate & GATE_COUNT;
        }
    }
}

/* Append one pointer-sized element to a growing array. */
static int grow(void **array, size_t count, size_t *capacity, size_t element_bytes)
{
    if (count < *capacity) {
        return 0;
    }
    size_t wanted = *capacity != 0 ? *capacity * 2 : 8;
    void *bigger = at_realloc(*array, wanted * element_bytes);
    if (bigger == NULL) {
        return AT_ENOMEM;
    }
    *array = bigger;
    *capacity = wanted;
    return 0;
}

int at_slot_add_exit(at_slot *slot, void (*function)(void))
{
    (void)pthread_mutex_lock(&slot->lock);
    void *array = slot->exit_functions;
    int result = grow(&array, slot->exit_count, &slot->exit_capacity, sizeof function);
    slot->exit_functions = array;
    if (result == 0) {
        slot->exit_functions[slot->exit_count++] = function;
    }
    (void)pthread_mutex_unlock(&slot->lock);
    return result;
}

void (*at_slot_take_exit(at_slot *slot))(void)
{
    void (*function)(void) = NULL;
    (void)pthread_mutex_lock(&slot->lock);
    if (slot->exit_count > 0) {
        function = slot->exit_functions[--slot->exit_count];
    }
    (void)pthread_mutex_unlock(&slot->lock);
    return function;
}

int at_slot_own_block(at_slot *slot, void *block)
{
    (void)pthread_mutex_lock(&slot->lock);
    void *array = slot->blocks;
    int result =
        grow(&array, slot->block_count, &slot->block_capacity, sizeof *slot->blocks);
    slot->blocks = array;
    if (result == 0) {
        slot->blocks[slot->block_count++] = block;
    }
    (void)pthread_mutex_unlock(&slot->lock);
    return result;
}
