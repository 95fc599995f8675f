/* Where the words of a lock, an event, an atomic int, a dict lie: in the heap of this
 * process, or in a page that processes share, a dict's in several.
 *
 * The code over the words is the same for both; the scope tells the kernel who may
 * sleep on them. A page begins with a head that says what it holds, so that another
 * process can be given nothing but the descriptor. In one process there is one thing
 * for each page, however often the page comes in (mapped.h).
 */
#ifndef AT_CHAN_PLACE_H
#define AT_CHAN_PLACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/shared.h"
#include "chan/mapped.h"
#include "sys/page.h"
#include "sys/park.h"

/* What a page holds. The numbers are seen by other processes. */
typedef enum at_place_content {
    AT_PLACE_LOCK = 1,
    AT_PLACE_CONDITION,
    AT_PLACE_EVENT,
    AT_PLACE_SEMAPHORE,
    AT_PLACE_BARRIER,
    AT_PLACE_ATOMIC,
    AT_PLACE_DICT,
} at_place_content;

/* Made once, with the thing. `content` and the rest stand in the head of a page. */
typedef struct at_place_facts {
    uint32_t content;
    uint32_t variant;  /* recursive, bounded, with a lock of its own */
    int64_t parameter; /* a limit, a number of parties */
} at_place_facts;

/* Embedded by the thing. */
typedef struct at_place {
    at_place_facts facts; /* fixed after init, as all below */
    at_park_scope scope;
    void *words;      /* zeros at first; a multiple of 64 */
    at_page page;     /* of AT_PARK_SHARED */
    at_mapped mapped; /* of AT_PARK_SHARED; by which the page is found again */
} at_place;

/* The beginning of every thing here: then anyone can ask for its place. */
typedef struct at_placed {
    at_shared shared;
    at_place place;
} at_placed;

/* How a thing comes to its words. */
typedef struct at_origin {
    const char *shared_as; /* NULL: of this process; "" or a name: a new page */
    at_page *page;         /* or one that was adopted, which is taken on success */
} at_origin;

/* How many bytes of words a page has. */
size_t at_place_page_words(void);

/* How many bytes of words there are in `page`, and where. */
size_t at_place_words_bytes(const at_page *page);
void *at_place_words_of(const at_page *page);

/* Words for a new thing: `size_bytes` of them where they are private, otherwise all of
 * a page, or for AT_PLACE_DICT of `size_bytes` of pages. A lock word at their beginning
 * is guarded (sys/guardian.h) for AT_PLACE_LOCK, AT_PLACE_CONDITION and AT_PLACE_DICT.
 * ctx:  any
 * owns: the caller ends it with at_place_fini
 * errs: fault: AT_ENOMEM, AT_ESYSTEM, AT_ELIMIT; AT_EUNSUPPORTED where processes cannot
 *       share locks */
int at_place_init(at_place *place, const at_origin *origin, const at_place_facts *facts,
                  size_t size_bytes, at_fault *fault);

/* ctx: any */
void at_place_fini(at_place *place);

/* What `page` holds.
 * errs: fault: AT_EINVALID where it holds nothing that is known here */
int at_place_identify(const at_page *page, at_place_facts *facts, at_fault *fault);

/* The thing of this process over `page`, with a reference, or NULL.
 * ctx: any */
at_shared *at_place_find(const at_page *page);

/* `placed` is complete and may be found. Returns it, or the one that another thread was
 * first to make known, which had its descriptor, or found it by name.
 * ctx:  any
 * owns: takes the caller's reference, and gives one to what it returns */
at_shared *at_place_publish(at_placed *placed);

#endif
