/* Places; see place.h. */
#include "chan/place.h"

#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "sys/guardian.h"

enum { HEAD_BYTES = 64, ALIGNMENT_BYTES = 64 };

/* Of a page; "atoll" and the version of the layouts. */
static const char mark[8] = {'a', 't', 'o', 'l', 'l', 's', 'y', 1};

typedef struct head {
    char mark[8];
    at_place_facts facts;
} head;

_Static_assert(sizeof(head) <= HEAD_BYTES, "the words follow it");

at_shared *at_place_find(const at_page *page)
{
    return at_mapped_find(AT_MAPPED_PLACE, &page->memory);
}

at_shared *at_place_publish(at_placed *placed)
{
    at_place *place = &placed->place;
    if (place->scope == AT_PARK_PRIVATE) {
        return &placed->shared;
    }
    at_shared *found = at_mapped_enter(&place->mapped, AT_MAPPED_PLACE,
                                       &place->page.memory, &placed->shared);
    if (found != &placed->shared) {
        at_shared_unref(&placed->shared);
    }
    return found;
}

/* ---- making ---------------------------------------------------------------------- */

static bool is_guarded(const at_place_facts *facts)
{
    return facts->content == AT_PLACE_LOCK || facts->content == AT_PLACE_CONDITION ||
           facts->content == AT_PLACE_DICT;
}

size_t at_place_page_words(void)
{
    return at_page_bytes() - HEAD_BYTES;
}

size_t at_place_words_bytes(const at_page *page)
{
    return page->memory.size_bytes - HEAD_BYTES;
}

void *at_place_words_of(const at_page *page)
{
    return (char *)page->memory.data + HEAD_BYTES;
}

int at_place_identify(const at_page *page, at_place_facts *facts, at_fault *fault)
{
    const head *begin = page->memory.data;
    *facts = begin->facts;
    bool is_one = page->memory.size_bytes == at_page_bytes();
    if (memcmp(begin->mark, mark, sizeof mark) != 0 || facts->content < AT_PLACE_LOCK ||
        facts->content > AT_PLACE_DICT ||
        (!is_one && facts->content != AT_PLACE_DICT)) {
        return at_fault_set(fault, AT_EINVALID,
                            "the shared memory holds no lock, event, semaphore, "
                            "barrier, atomic int or dict of this version of atoll");
    }
    return 0;
}

static int open_page(at_place *place, const at_origin *origin, size_t size_bytes,
                     at_fault *fault)
{
    if (origin->page != NULL) {
        place->page = *origin->page;
        return 0;
    }
    char label[256];
    (void)snprintf(label, sizeof label, "atoll-sync:%s", origin->shared_as);
    bool is_dict = place->facts.content == AT_PLACE_DICT;
    int result = at_page_open(&place->page, label,
                              is_dict ? size_bytes : at_page_bytes(), fault);
    if (result == 0) {
        head *begin = place->page.memory.data;
        begin->facts = place->facts;
        memcpy(begin->mark, mark, sizeof mark);
    }
    return result;
}

int at_place_init(at_place *place, const at_origin *origin, const at_place_facts *facts,
                  size_t size_bytes, at_fault *fault)
{
    *place = (at_place){.facts = *facts};
    if (origin->shared_as == NULL && origin->page == NULL) {
        size_t whole =
            (size_bytes + ALIGNMENT_BYTES - 1) & ~(size_t)(ALIGNMENT_BYTES - 1);
        place->scope = AT_PARK_PRIVATE;
        place->words = at_calloc_aligned(ALIGNMENT_BYTES, whole);
        return place->words != NULL ? 0
                                    : at_fault_set(fault, AT_ENOMEM, "out of memory");
    }
    if (is_guarded(facts) && at_guardian_number() == 0) {
        return at_fault_set(fault, AT_EUNSUPPORTED,
                            "the system cannot tell of the death of a lock's holder: "
                            "set_robust_list() or a new thread was refused");
    }
    place->scope = AT_PARK_SHARED;
    int result = open_page(place, origin, size_bytes, fault);
    if (result < 0) {
        *place = (at_place){0};
        return result;
    }
    place->words = at_place_words_of(&place->page);
    if (is_guarded(facts)) {
        result = at_guardian_enter(&place->page, HEAD_BYTES, fault);
    }
    if (result < 0) {
        if (origin->page == NULL) {
            at_page_close(&place->page);
        }
        *place = (at_place){0};
    }
    return result;
}

void at_place_fini(at_place *place)
{
    if (place->scope == AT_PARK_PRIVATE) {
        at_free(place->words);
        return;
    }
    at_mapped_leave(&place->mapped);
    if (is_guarded(&place->facts)) {
        at_guardian_leave(&place->page, HEAD_BYTES);
    }
    at_page_close(&place->page);
}
