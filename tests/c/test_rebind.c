/* A loaded library whose calls are bound elsewhere. */
#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

#include "check.h"
#include "elf/rebind.h"

#define LIBRARY(name) TEST_LIBRARIES "/" name

static pid_t other_getppid(void)
{
    return 4242;
}

static void *open_library(const char *path)
{
    void *handle = dlopen(path, RTLD_NOW);
    CHECK(handle != NULL);
    return handle;
}

static pid_t call(void *handle, const char *name)
{
    pid_t (*function)(void) = (pid_t(*)(void))dlsym(handle, name);
    CHECK(function != NULL);
    return function();
}

static int rebind(const char *path, const char *symbol, at_fault *fault)
{
    return at_rebind(path, symbol, (void *)other_getppid, fault);
}

/* Bound at first use, and at once in pages that are read-only by now. */
static void calls_go_elsewhere(void)
{
    const char *const paths[] = {LIBRARY("libplain.so"), LIBRARY("libplain_named.so")};
    for (int i = 0; i < 2; i++) {
        void *handle = open_library(paths[i]);
        CHECK(call(handle, "plain_call") == getppid());
        at_fault fault = {0};
        CHECK(rebind(paths[i], "getppid", &fault) > 0);
        CHECK(call(handle, "plain_call") == 4242);
        CHECK(call(handle, "plain_call_address") == 4242);
        CHECK(getppid() != 4242);
        CHECK(dlclose(handle) == 0);
    }
}

static void what_is_not_called_is_left(void)
{
    void *handle = open_library(LIBRARY("libplain.so"));
    at_fault fault = {0};
    CHECK(rebind(LIBRARY("libplain.so"), "no_such_function", &fault) == 0);
    CHECK(dlclose(handle) == 0);
}

static void a_library_must_be_loaded(void)
{
    at_fault fault = {0};
    CHECK(rebind(LIBRARY("libabsent.so"), "getppid", &fault) == AT_ENOTFOUND);
    CHECK(fault.text[0] != '\0');
}

/* Copy a library, with a RELRO that ends `less` bytes earlier. */
static void copy_with_less_relro(const char *from, const char *to, size_t less)
{
    static _Alignas(8) char data[1 << 20];
    FILE *file = fopen(from, "rb");
    CHECK(file != NULL);
    size_t size_bytes = fread(data, 1, sizeof data, file);
    CHECK(size_bytes > 0 && size_bytes < sizeof data && fclose(file) == 0);
    const Elf64_Ehdr *header = (const Elf64_Ehdr *)data;
    Elf64_Phdr *segments = (Elf64_Phdr *)(data + header->e_phoff);
    int found = 0;
    for (int i = 0; i < header->e_phnum; i++) {
        if (segments[i].p_type == PT_GNU_RELRO) {
            CHECK(segments[i].p_memsz > less);
            segments[i].p_memsz -= less;
            found++;
        }
    }
    CHECK(found == 1);
    file = fopen(to, "wb");
    CHECK(file != NULL && fwrite(data, 1, size_bytes, file) == size_bytes);
    CHECK(fclose(file) == 0);
}

/* The kernel says whether it may write there; it leaves what there is. */
static int is_writable(char *address)
{
    int ends[2];
    CHECK(pipe(ends) == 0 && write(ends[1], address, 1) == 1);
    ssize_t got = read(ends[0], address, 1);
    CHECK(got == 1 || errno == EFAULT);
    CHECK(close(ends[0]) == 0 && close(ends[1]) == 0);
    return got == 1;
}

static int find_relro_end(struct dl_phdr_info *info, size_t size_bytes, void *data)
{
    (void)size_bytes;
    if (strstr(info->dlpi_name, "relro_copy.so") == NULL) {
        return 0;
    }
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const Elf64_Phdr *segment = &info->dlpi_phdr[i];
        if (segment->p_type == PT_GNU_RELRO) {
            *(char **)data =
                (char *)info->dlpi_addr + segment->p_vaddr + segment->p_memsz - 1;
        }
    }
    return 1;
}

/* The loader rounds the end of RELRO down to a page: what stands behind is written. */
static void a_page_that_relro_ends_in_stays_writable(void)
{
    char folder[] = "/tmp/atoll_rebind_XXXXXX";
    char path[64];
    CHECK(mkdtemp(folder) != NULL);
    (void)snprintf(path, sizeof path, "%s/relro_copy.so", folder);
    copy_with_less_relro(LIBRARY("libplain_named.so"), path, 8);
    void *needed = open_library(LIBRARY("libstate.so")); /* of that name, elsewhere */
    void *handle = open_library(path);
    char *end = NULL;
    CHECK(dl_iterate_phdr(find_relro_end, &end) == 1 && end != NULL);
    CHECK(is_writable(end));
    at_fault fault = {0};
    CHECK(rebind(path, "getppid", &fault) > 0);
    CHECK(call(handle, "plain_call") == 4242);
    CHECK(is_writable(end));
    CHECK(dlclose(handle) == 0 && dlclose(needed) == 0);
    CHECK(unlink(path) == 0 && rmdir(folder) == 0);
}

static int rebind_failing(void)
{
    void *handle = open_library(LIBRARY("libplain.so"));
    at_fault fault = {0};
    int result = rebind(LIBRARY("libplain.so"), "getppid", &fault);
    CHECK(dlclose(handle) == 0);
    return result < 0 ? result : 0;
}

int main(void)
{
    RUN(calls_go_elsewhere);
    RUN(what_is_not_called_is_left);
    RUN(a_library_must_be_loaded);
    RUN(a_page_that_relro_ends_in_stays_writable);
    RUN_FAILING(rebind_failing);
    return 0;
}
