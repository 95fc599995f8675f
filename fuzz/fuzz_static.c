/* What a client may ask of a static file: conditions and a range in the headers of any
 * request, the codings that it takes, and the name by whose end a type is told. Up to
 * the first NUL a path, behind it a request's head. */
#include "fuzz.h"

#include "base/error.h"
#include "net/static.h"

static const char ETAG[] = "\"1a-2b-3c\"";

static int is_conditional(const at_h1_request *request)
{
    static const char *const names[] = {"if-none-match", "if-match",
                                        "if-modified-since", "if-unmodified-since"};
    for (size_t i = 0; i < request->header_count; i++) {
        for (size_t j = 0; j < sizeof names / sizeof *names; j++) {
            if (at_h1_equal(request->headers[i].name, names[j])) {
                return 1;
            }
        }
    }
    return 0;
}

static int has(const at_h1_request *request, const char *name)
{
    for (size_t i = 0; i < request->header_count; i++) {
        if (at_h1_equal(request->headers[i].name, name)) {
            return 1;
        }
    }
    return 0;
}

static void check_verdict(const at_h1_request *request, uint64_t size_bytes)
{
    at_static_facts facts = {
        .etag = {ETAG, sizeof ETAG - 1},
        .modified_s = 1700000000,
        .size_bytes = size_bytes,
    };
    at_static_verdict verdict = at_static_judge(request, &facts);
    switch (verdict.status) {
    case 200:
        HOLDS(verdict.first == 0 && verdict.count == size_bytes);
        break;
    case 206: /* never more than there is, never nothing */
        HOLDS(has(request, "range"));
        HOLDS(verdict.count != 0 && verdict.first < size_bytes);
        HOLDS(verdict.count <= size_bytes - verdict.first);
        break;
    case 416:
        HOLDS(has(request, "range"));
        break;
    default:
        HOLDS(verdict.status == 304 || verdict.status == 412);
        HOLDS(is_conditional(request));
    }
    /* It is the same file twice. */
    at_static_verdict again = at_static_judge(request, &facts);
    HOLDS(again.status == verdict.status && again.first == verdict.first &&
          again.count == verdict.count);
}

static void check_head(const uint8_t *data, size_t size)
{
    static const uint64_t sizes[] = {0, 1, 500, 1ULL << 40, UINT64_MAX / 2};
    char *copy = exact_copy(data, size);
    at_h1_limits limits;
    at_h1_limits_init(&limits);
    at_h1_request request;
    if (at_h1_parse_head(&request, copy, size, 0, &limits) > 0) {
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
            check_verdict(&request, sizes[i]);
        }
        bool takes = at_static_accepts(&request, "br");
        HOLDS(!takes || has(&request, "accept-encoding"));
        (void)at_static_accepts(&request, "gzip");
    }
    free(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *end = size != 0 ? memchr(data, 0, size) : NULL;
    if (end == NULL) {
        return 0;
    }
    size_t path_size = (size_t)(end - data);
    char *path = exact_copy(data, path_size + 1);
    bool compressible = false;
    const char *type = at_static_type(path, &compressible);
    HOLDS(type != NULL && strchr(type, '/') != NULL && strchr(type, '\n') == NULL);
    free(path);
    check_head(end + 1, size - path_size - 1);
    return 0;
}
