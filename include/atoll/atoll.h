/* atoll's public C API, for programs that embed Python and extensions that feed it.
 *
 * Nothing here needs Python.h, and no function needs a thread state unless it says so.
 */
#ifndef ATOLL_ATOLL_H
#define ATOLL_ATOLL_H

#define ATOLL_VERSION_MAJOR 0
#define ATOLL_VERSION_MINOR 1
#define ATOLL_VERSION_PATCH 0

#endif
