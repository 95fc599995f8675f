/* Who may call: clang's thread-safety analysis, applied to the GIL.
 *
 * `at_gil` stands for "the thread state of the object's own interpreter is attached to
 * this thread". A prototype says AT_ATTACHED or AT_DETACHED, and clang reports a call
 * in the wrong context, and a way out of a function that leaves it changed. GCC sees
 * nothing. Functions without a mark may be called in any context and never block.
 */
#ifndef AT_BASE_CONTEXTS_H
#define AT_BASE_CONTEXTS_H

#if defined(__clang__)
#define AT_THREAD_ANNOTATION(x) __attribute__((x))
#else
#define AT_THREAD_ANNOTATION(x)
#endif

struct AT_THREAD_ANNOTATION(capability("gil")) at_gil_capability {
    char unused;
};
extern struct at_gil_capability at_gil; /* never defined: a name for the analysis */

/* Needs the attached thread state. */
#define AT_ATTACHED AT_THREAD_ANNOTATION(requires_capability(at_gil))
/* May block: must not hold it. */
#define AT_DETACHED AT_THREAD_ANNOTATION(locks_excluded(at_gil))
/* Attaches, or detaches. */
#define AT_ATTACHES AT_THREAD_ANNOTATION(acquire_capability(at_gil))
#define AT_DETACHES AT_THREAD_ANNOTATION(release_capability(at_gil))
/* Entry points that Python itself calls, and the bodies of attach and detach. */
#define AT_UNCHECKED AT_THREAD_ANNOTATION(no_thread_safety_analysis)

#endif
