/* Errors, bytes and reference counts. */
#include <errno.h>
#include <string.h>

#include "base/bytes.h"
#include "base/error.h"
#include "base/shared.h"
#include "check.h"

static void error_texts(void)
{
    CHECK(strcmp(at_error_text(AT_ECLOSED), "closed") == 0);
    CHECK(strcmp(at_error_text(-9999), "unknown error") == 0);
    CHECK(at_error_from_errno(ENOENT) == AT_ENOTFOUND);
    at_fault fault;
    CHECK(at_fault_set_system(&fault, ENOENT, "open %s", "x") == AT_ENOTFOUND);
    CHECK(strcmp(fault.text, "open x: No such file or directory") == 0);
    CHECK(at_fault_set(NULL, AT_EFULL, "no room") == AT_EFULL);
}

static void fault_text_is_cut(void)
{
    char long_text[4096];
    memset(long_text, 'a', sizeof long_text - 1);
    long_text[sizeof long_text - 1] = '\0';
    at_fault fault;
    CHECK(at_fault_set(&fault, AT_EFORMAT, "%s", long_text) == AT_EFORMAT);
    CHECK(strlen(fault.text) == sizeof fault.text - 1);
}

static int bytes_grow(void)
{
    at_bytes bytes;
    at_bytes_init(&bytes);
    int result = 0;
    for (int i = 0; i < 1000 && result == 0; i++) {
        result = at_bytes_append(&bytes, "0123456789", 10);
    }
    if (result == 0) {
        at_bytes_consume(&bytes, 9995);
        CHECK(bytes.size == 5 && memcmp(bytes.data, "56789", 5) == 0);
    }
    at_bytes_fini(&bytes);
    return result;
}

static int things_freed;
static void count_free(at_shared *thing)
{
    (void)thing;
    things_freed++;
}

static void references(void)
{
    static const at_shared_kind kind = {"counted", count_free};
    at_shared thing;
    at_shared_init(&thing, &kind);
    CHECK(at_shared_ref(&thing) == &thing);
    at_shared_unref(&thing);
    CHECK(things_freed == 0);
    at_shared_unref(&thing);
    CHECK(things_freed == 1);
    at_shared_unref(NULL);
}

int main(void)
{
    RUN(error_texts);
    RUN(fault_text_is_cut);
    RUN_FAILING(bytes_grow);
    RUN(references);
    return 0;
}
