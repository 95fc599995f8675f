/* A loaded library whose calls are bound elsewhere. */
#include <dlfcn.h>
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
    RUN_FAILING(rebind_failing);
    return 0;
}
