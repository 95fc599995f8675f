/* Keys; see key.h. */
#define PY_SSIZE_T_CLEAN
#include "parcel/key.h"

#include <stdint.h>
#include <string.h>

#include "interp/compat.h"

void at_keys_clear(at_keys *keys)
{
    for (size_t i = 0; i < AT_KEYS; i++) {
        Py_CLEAR(keys->known[i]);
    }
}

/* The place of a key: from its length, its beginning and its end. */
static size_t place_of(const char *data, size_t size)
{
    uint64_t first = 0;
    uint64_t last = 0;
    if (size >= sizeof first) {
        memcpy(&first, data, sizeof first);
        memcpy(&last, data + size - sizeof last, sizeof last);
    } else {
        for (size_t i = 0; i < size; i++) {
            first = first << 8 | (unsigned char)data[i];
        }
    }
    uint64_t mixed = (first ^ last * 0x9E3779B97F4A7C15 ^ size) * 0xD6E8FEB86659FD93;
    return (size_t)(mixed >> 32) % AT_KEYS;
}

static PyObject *make(const char *data, size_t size) AT_ATTACHED
{
    return PyUnicode_FromKindAndData(PyUnicode_1BYTE_KIND, data, (Py_ssize_t)size);
}

PyObject *at_keys_get(at_keys *keys, const char *data, size_t size)
{
    if (AT_FREE_THREADED || size > AT_KEY_BYTES_MOST) {
        return make(data, size);
    }
    PyObject **place = &keys->known[place_of(data, size)];
    if (*place == NULL || (size_t)PyUnicode_GET_LENGTH(*place) != size ||
        memcmp(PyUnicode_DATA(*place), data, size) != 0) {
        PyObject *key = make(data, size);
        if (key == NULL) {
            return NULL;
        }
        Py_XSETREF(*place, key);
    }
    return Py_NewRef(*place);
}
