/* The reader of ELF files: real ones pass, damaged ones fail with a sentence, and none
 * makes it read outside of the file (run under ASan). */
#include <elf.h>
#include <stdint.h>
#include <string.h>

#include "check.h"
#include "elf/closure.h"
#include "elf/file.h"
#include "elf/search.h"

#define LIBRARY(name) TEST_LIBRARIES "/" name

static void real_file(void)
{
    at_elf_file *file;
    at_fault fault;
    CHECK(at_elf_file_open(LIBRARY("libplain_named.so"), &file, &fault) == 0);
    CHECK(strcmp(file->soname, "libplain_named.so") == 0);
    CHECK(file->runpath != NULL && strstr(file->runpath, "$ORIGIN") != NULL);
    CHECK(file->init_array_count >= 1 && file->symbol_count > 5);
    CHECK(!file->has_unique && !file->must_copy_whole && !file->defines_allocator);
    at_elf_file_close(file);
    CHECK(at_elf_file_open(LIBRARY("libunique_one.so"), &file, &fault) == 0);
    CHECK(file->has_unique);
    at_elf_file_close(file);
    at_elf_file_close(NULL);
}

static void search_order(void)
{
    at_elf_file *file;
    char *path;
    CHECK(at_elf_file_open(LIBRARY("libplain.so"), &file, NULL) == 0);
    const at_elf_dependent dependent = {.file = file};
    CHECK(at_elf_search(&dependent, "libstate.so", &path) == 0);
    CHECK(strstr(path, "libstate.so") != NULL);
    at_free(path);
    CHECK(at_elf_search(NULL, "libstate.so", &path) == AT_ENOTFOUND);
    CHECK(at_elf_search(NULL, "libc.so.6", &path) == 0);
    CHECK(path[0] == '/');
    at_free(path);
    CHECK(setenv("LD_LIBRARY_PATH", "/nowhere:" TEST_LIBRARIES, 1) == 0);
    CHECK(at_elf_search(NULL, "libstate.so", &path) == 0);
    CHECK(strcmp(path, LIBRARY("libstate.so")) == 0);
    at_free(path);
    CHECK(unsetenv("LD_LIBRARY_PATH") == 0);
    CHECK(at_elf_search(&dependent, LIBRARY("meson.build"), &path) == AT_ENOTFOUND);
    at_elf_file_close(file);
}

/* DT_RPATH reaches what is brought in further down; DT_RUNPATH ends that. */
static void inherited_rpath(void)
{
    at_elf_file extension = {.path = LIBRARY("extension.so"), .rpath = "$ORIGIN"};
    at_elf_file library = {.path = "/nowhere/library.so"};
    const at_elf_dependent loader = {.file = &extension};
    const at_elf_dependent dependent = {.file = &library, .loader = &loader};
    char *path;
    CHECK(at_elf_search(&dependent, "libstate.so", &path) == 0);
    CHECK(strcmp(path, LIBRARY("libstate.so")) == 0);
    at_free(path);
    library.runpath = "/nowhere";
    CHECK(at_elf_search(&dependent, "libstate.so", &path) == AT_ENOTFOUND);
    library.runpath = NULL;
    extension.runpath = "/nowhere";
    CHECK(at_elf_search(&dependent, "libstate.so", &path) == AT_ENOTFOUND);
}

static void closure_and_policy(void)
{
    CHECK(at_library_is_system("libc.so.6") && at_library_is_system("libstdc++.so.6"));
    CHECK(at_library_is_system("libgomp-a34b3233.so.1.0.0"));
    CHECK(at_library_is_system("/lib64/ld-linux-x86-64.so.2"));
    CHECK(!at_library_is_system("libcrypto.so.3") &&
          !at_library_is_system("libmfoo.so"));
    at_library *library, *again;
    at_fault fault;
    CHECK(at_library_set_policy(NULL, "libstate:libother") == 0);
    CHECK(at_library_get(LIBRARY("libplain.so"), true, &library, &fault) == 0);
    CHECK(at_library_get(LIBRARY("./libplain.so"), true, &again, &fault) == 0);
    CHECK(library == again && !library->is_shared);
    int shared = 0;
    for (size_t i = 0; i < library->need_count; i++) {
        if (strcmp(library->needs[i].name, "libstate.so") == 0) {
            CHECK(library->needs[i].library->is_shared);
            shared++;
        }
    }
    CHECK(shared == 1);
}

/* ---- damage -------------------------------------------------------------------- */

typedef struct content {
    uint64_t *data; /* aligned */
    size_t size;
} content;

static content read_whole(const char *path)
{
    FILE *stream = fopen(path, "rb");
    CHECK(stream != NULL && fseek(stream, 0, SEEK_END) == 0);
    const long size = ftell(stream);
    CHECK(size > 0 && fseek(stream, 0, SEEK_SET) == 0);
    content result = {malloc((size_t)size), (size_t)size};
    CHECK(result.data != NULL);
    CHECK(fread(result.data, 1, result.size, stream) == result.size);
    (void)fclose(stream);
    return result;
}

static int parse(const void *data, size_t size)
{
    at_elf_file *file;
    at_fault fault = {.text = ""};
    int result = at_elf_file_parse(data, size, "/damaged.so", &file, &fault);
    if (result == 0) {
        at_elf_file_close(file);
    } else {
        CHECK(strstr(fault.text, "/damaged.so") != NULL);
    }
    return result;
}

static void cut_anywhere(void)
{
    content whole = read_whole(LIBRARY("libunique_one.so"));
    CHECK(parse(whole.data, whole.size) == 0);
    int refused = 0;
    for (size_t size = 0; size < whole.size; size += size < 5000 ? 7 : 101) {
        void *cut = malloc(size != 0 ? size : 1); /* so that ASan sees its end */
        CHECK(cut != NULL);
        memcpy(cut, whole.data, size);
        refused += parse(cut, size) < 0;
        free(cut);
    }
    CHECK(refused > 100);
    free(whole.data);
}

static void damaged_anywhere(void)
{
    uint64_t random = 20240607;
    int refused = 0;
    const char *const names[] = {LIBRARY("libplain.so"), LIBRARY("libthreads.so")};
    for (int n = 0; n < 2; n++) {
        content whole = read_whole(names[n]);
        unsigned char *bytes = malloc(whole.size);
        CHECK(bytes != NULL);
        for (int round = 0; round < 10000; round++) {
            memcpy(bytes, whole.data, whole.size);
            for (int change = 0; change <= round % 3; change++) {
                random = random * 6364136223846793005U + 1442695040888963407U;
                /* Most tables stand in the first pages, or in the dynamic one. */
                size_t range = round % 2 == 0 && whole.size > 4096 ? 4096 : whole.size;
                bytes[(random >> 20) % range] = (unsigned char)(random >> 56);
            }
            refused += parse(bytes, whole.size) < 0;
        }
        free(bytes);
        free(whole.data);
    }
    CHECK(refused > 1000);
}

static int parse_failing(void)
{
    at_elf_file *file;
    at_fault fault;
    int result = at_elf_file_open(LIBRARY("libplain.so"), &file, &fault);
    if (result == 0) {
        at_elf_file_close(file);
    }
    return result;
}

int main(void)
{
    /* meson points it at the very libraries that a test says cannot be found. */
    CHECK(unsetenv("LD_LIBRARY_PATH") == 0);
    RUN(real_file);
    RUN(search_order);
    RUN(inherited_rpath);
    RUN(closure_and_policy);
    RUN(cut_anywhere);
    RUN(damaged_anywhere);
    RUN_FAILING(parse_failing);
    return 0;
}
