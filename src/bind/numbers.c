/* Dicts of named numbers; see numbers.h. */
#include "bind/numbers.h"

int at_numbers_put(PyObject *dict, const char *key, PyObject *value)
{
    if (value == NULL) {
        return -1;
    }
    int result = PyDict_SetItemString(dict, key, value);
    Py_DECREF(value);
    return result;
}

PyObject *at_numbers_dict(const at_named_number *numbers, size_t count)
{
    PyObject *dict = PyDict_New();
    for (size_t i = 0; dict != NULL && i < count; i++) {
        PyObject *number = PyLong_FromLongLong(numbers[i].number);
        if (at_numbers_put(dict, numbers[i].name, number) < 0) {
            Py_CLEAR(dict);
        }
    }
    return dict;
}
