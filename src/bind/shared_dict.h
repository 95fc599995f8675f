/* The keys of atoll.SharedDict. */
#ifndef AT_BIND_SHARED_DICT_H
#define AT_BIND_SHARED_DICT_H

#include <Python.h>
#include <stdint.h>

#include "base/contexts.h"
#include "chan/dict.h"

/* A key whose bytes lie in the object, in `owner`, or here; never moved. */
typedef struct at_dict_key_room {
    at_dict_key key;
    PyObject *owner; /* or NULL */
    int64_t number;
} at_dict_key_room;

/* The str, bytes or int `object` as a key; good while `object` lives and until fini.
 * ctx:  attached
 * errs: -1 with TypeError for other types */
int at_dict_key_init(at_dict_key_room *room, PyObject *object) AT_ATTACHED;
void at_dict_key_fini(at_dict_key_room *room) AT_ATTACHED;

/* A new object for `key`, or NULL with an exception set. ctx: attached */
PyObject *at_dict_key_object(const at_dict_key *key) AT_ATTACHED;

#endif
