/* Spares; see spare.h. */
#define PY_SSIZE_T_CLEAN
#include "parcel/spare.h"

#include <assert.h>

static_assert(PyLong_SHIFT == 30,
              "a digit of an int holds what at_spare_int() is given");

void at_spares_clear(at_spares *spares)
{
    for (size_t i = 0; i < AT_SPARES; i++) {
        Py_CLEAR(spares->objects[i]);
    }
}
