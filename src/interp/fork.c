/* See fork.h.
 *
 * os.fork() is refused while interpreters live (python/atoll/_fork.py), because CPython
 * aborts in the child: PyOS_AfterFork_Child() wants to be in main, and there fails to
 * end interpreters whose threads are gone. An extension that forks to start a program,
 * as uvloop does for asyncio's subprocesses, calls it just the same. Its child is this
 * one thread, which holds its GIL as before, and ends in exec: nothing is to be put in
 * order but that GIL, which it gives up on the way (os.close(), a preexec_fn). What
 * PyOS_BeforeFork() locked stays locked in the child. */
#include "interp/fork.h"

#include <Python.h>

#include "interp/gil.h"
#include "interp/remedy.h"

void at_fork_child(void)
{
    const bool alone = PyInterpreterState_Next(PyInterpreterState_Head()) == NULL;
    if (alone || at_remedy_is_left_out(AT_REMEDY_FORK)) {
        PyOS_AfterFork_Child();
    } else {
        at_gil_forget_waiters();
    }
}
