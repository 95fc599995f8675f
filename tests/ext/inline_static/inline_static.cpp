/* C++: an inline variable and a function's static, which the linker makes one for the
 * whole process (STB_GNU_UNIQUE), and a static object with a constructor. */
#include "sin.h"

#include <string>
#include <vector>

struct registry {
    inline static long count = 0;
    static registry &instance()
    {
        static registry one;
        return one;
    }
    std::vector<std::string> names{"first"};
};

static std::string constructed = "constructed";

SIN_FUNCTION(add)
{
    registry::count++;
    registry::instance().names.push_back(constructed);
    return Py_BuildValue("ln", registry::count,
                         (Py_ssize_t)registry::instance().names.size());
}

SIN_FUNCTION(catches)
{
    try {
        throw std::string("thrown");
    } catch (const std::string &text) {
        return PyUnicode_FromString(text.c_str());
    }
}

static PyMethodDef methods[] = {SIN_METHOD(add, METH_NOARGS),
                                SIN_METHOD(catches, METH_NOARGS), SIN_END};

SIN_SINGLE_PHASE(inline_static, methods)
