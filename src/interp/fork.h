/* The child of a fork that an extension does itself. */
#ifndef AT_INTERP_FORK_H
#define AT_INTERP_FORK_H

/* PyOS_AfterFork_Child for extensions, images and main's: does nothing while there are
 * interpreters beside main. ctx: attached, in the only thread of a forked child */
void at_fork_child(void);

#endif
