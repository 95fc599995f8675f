/* The packer: what pack.c (plain types) and reduce.c (all others) share. */
#ifndef AT_PARCEL_PACKER_H
#define AT_PARCEL_PACKER_H

#include <Python.h>
#include <stdbool.h>

#include "base/contexts.h"
#include "chan/message.h"
#include "parcel/format.h"
#include "parcel/memo.h"
#include "parcel/state.h"

typedef enum at_step_kind {
    AT_STEP_INDEX,     /* [3] */
    AT_STEP_KEY,       /* ['name'], for the value and for the key itself */
    AT_STEP_ATTRIBUTE, /* .name */
    AT_STEP_MEMBER,    /* {...}: of a set */
    AT_STEP_WORD,      /* what `word` says */
    AT_STEP_METHOD,    /* nothing; the item 0 in it is .__self__, item 1 .__func__ */
} at_step_kind;

/* Where the packer is: a chain of frames on the C stack, outermost last. */
typedef struct at_step {
    const struct at_step *outer;
    at_step_kind kind;
    Py_ssize_t index;
    PyObject *key; /* borrowed */
    const char *word;
} at_step;

typedef struct at_packer {
    at_message_writer writer;
    at_memo memo;
    at_parcel_state *state;
    const at_step *step; /* innermost */
    bool bytes_only;     /* no attachments: for another process */
    bool lasting;        /* and nothing that this process has to pass on itself */
    bool whole;          /* no type that is known: for the bytes of one */
    PyObject *apart; /* borrowed: a list for what is left out of the bytes, or NULL */
    size_t apart_bytes; /* from which size */
} at_packer;

/* Write `object`; `again` where it may be met again and so belongs in the memo. The
 * caller holds a reference throughout. 0, or -1 with an exception set. */
int at_packer_object(at_packer *packer, PyObject *object, bool again) AT_ATTACHED;

/* Write `object`, not of a plain type: reduce.c. */
int at_packer_reduce(at_packer *packer, PyObject *object, bool again) AT_ATTACHED;

/* Write the dict `object`, whose keys are attributes' names for the path if
 * `attributes`. */
int at_packer_dict(at_packer *packer, PyObject *object, bool again,
                   bool attributes) AT_ATTACHED;

/* Write `tag` and the bytes of `view`, one of `object`, as an attached block: reduce.c.
 */
int at_packer_block(at_packer *packer, int tag, PyObject *object, bool again,
                    const Py_buffer *view) AT_ATTACHED;

/* Is something of `size` bytes left out of the bytes? */
static inline bool at_packer_is_apart(const at_packer *packer, size_t size)
{
    return packer->apart != NULL && size >= packer->apart_bytes;
}

/* Leave `object` out: write `tag` and its number among what is: reduce.c. */
int at_packer_apart(at_packer *packer, int tag, PyObject *object,
                    bool again) AT_ATTACHED;

/* Write a tag. */
int at_packer_tag(at_packer *packer, int tag) AT_ATTACHED;

/* Write an unsigned size or number. */
int at_packer_size(at_packer *packer, size_t size) AT_ATTACHED;

int at_packer_append(at_packer *packer, const void *data, size_t size) AT_ATTACHED;

/* Remember `object` under the next number. */
static inline int at_packer_remember(at_packer *packer, PyObject *object) AT_ATTACHED
{
    return at_memo_add(&packer->memo, object);
}

/* Raise NotShareableError for `object`, at the place where the packer is, with the
 * exception that is set, if one is, as its cause. -1 always. */
int at_packer_refuse(at_packer *packer, PyObject *object,
                     const char *reason) AT_ATTACHED;

#endif
