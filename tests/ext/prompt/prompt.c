/* Sets the functions of the program's prompt, as readline and tkinter do. */
#include "sin.h"

#include <stdio.h>

static PyMethodDef methods[] = {SIN_END};

SIN_DEFINE(prompt, methods);

static char *ask(FILE *input, FILE *output, const char *text)
{
    static const char line[] = "from the image\n";
    char *answer = PyMem_RawMalloc(sizeof line);
    return answer != NULL ? memcpy(answer, line, sizeof line) : NULL;
}

static int wait_for_input(void)
{
    return 0;
}

PyMODINIT_FUNC PyInit_prompt(void)
{
    PyOS_ReadlineFunctionPointer = ask;
    PyOS_InputHook = wait_for_input;
    return PyModule_Create(&prompt_def);
}
