/* Takes from the process what it does not give back, as allocators and runtimes do. */
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <threads.h>

enum { CHUNK_BYTES = 1 << 20 };

void *holder_map(void);
void *holder_map_aligned(void);
int holder_unmap(void *address);
int holder_create_keys(void);
int holder_delete_key(void);
int holder_handle_signal(void);
int holder_ignore_signal(void);
int holder_put_environment(void);

static void *map(size_t size_bytes)
{
    void *mapped = mmap(NULL, size_bytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return mapped != MAP_FAILED ? mapped : NULL;
}

void *holder_map(void)
{
    void *volatile mapped = map(CHUNK_BYTES);
    return mapped;
}

/* Two chunks, of which the ends are given back; then the rest grows. */
void *holder_map_aligned(void)
{
    char *mapped = map((size_t)2 * CHUNK_BYTES);
    if (mapped == NULL || munmap(mapped, CHUNK_BYTES / 2) != 0 ||
        munmap(mapped + CHUNK_BYTES * 3 / 2, CHUNK_BYTES / 2) != 0) {
        return NULL;
    }
    void *grown = mremap(mapped + CHUNK_BYTES / 2, CHUNK_BYTES, (size_t)2 * CHUNK_BYTES,
                         MREMAP_MAYMOVE);
    return grown != MAP_FAILED ? grown : NULL;
}

int holder_unmap(void *address)
{
    return munmap(address, CHUNK_BYTES); /* a jump: the caller's caller is seen */
}

static pthread_key_t key;

int holder_create_keys(void)
{
    tss_t other;
    return pthread_key_create(&key, NULL) == 0 &&
                   tss_create(&other, NULL) == thrd_success
               ? 0
               : -1;
}

int holder_delete_key(void)
{
    return pthread_key_delete(key);
}

static void handle(int number)
{
    (void)number;
}

int holder_handle_signal(void)
{
    return signal(SIGUSR2, handle) != SIG_ERR ? 0 : -1;
}

int holder_ignore_signal(void)
{
    return signal(SIGUSR2, SIG_IGN) != SIG_ERR ? 0 : -1;
}

int holder_put_environment(void)
{
    static char definition[] = "ATOLL_TEST_HOLDER=put";
    return putenv(definition);
}
