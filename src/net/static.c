/* Static files: mounts, paths, streaming; see static.h. */
#include "net/static.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "sys/beneath.h"
#include "sys/file.h"

enum {
    PATH_MAX_BYTES = 4096,
    CHUNK_BYTES = 64 << 10,
    AT_ONCE_BYTES = 1 << 20, /* that go from the page cache in one call */
    NOT_SENT = 2,            /* beside what at_exchange_write gives */
    HEADERS_MAX = 10,
};

typedef struct mount {
    struct mount *next; /* shorter prefixes later */
    size_t prefix_size;
    int folder;
    char prefix[]; /* without the slash at its end */
} mount;

struct at_static_mounts {
    mount *first;
};

/* A response that is under way. */
typedef struct stream {
    struct stream *before, *after;
    at_exchange *exchange; /* a reference */
    int descriptor;
    uint64_t offset, left;
} stream;

struct at_static {
    const at_static_mounts *mounts;
    const at_hooks *above;
    void *context;
    stream *streams;
    char chunk[CHUNK_BYTES];
};

/* ---- mounts ---------------------------------------------------------------------- */

int at_static_mount(at_static_mounts **mounts, const char *prefix, const char *folder,
                    at_fault *fault)
{
    size_t size = strlen(prefix);
    while (size != 0 && prefix[size - 1] == '/') {
        size--;
    }
    if (prefix[0] != '/' || strstr(prefix, "//") != NULL) {
        return at_fault_set(fault, AT_EINVALID,
                            "the prefix of static files must begin with '/': %s",
                            prefix);
    }
    if (*mounts == NULL && (*mounts = at_calloc(1, sizeof **mounts)) == NULL) {
        return at_fault_set(fault, AT_ENOMEM, "out of memory for a mount");
    }
    int descriptor = at_beneath_folder(folder, fault);
    if (descriptor < 0) {
        return descriptor;
    }
    mount *made = at_calloc(1, sizeof *made + size + 1);
    if (made == NULL) {
        at_file_close(descriptor);
        return at_fault_set(fault, AT_ENOMEM, "out of memory for a mount");
    }
    memcpy(made->prefix, prefix, size);
    made->prefix_size = size;
    made->folder = descriptor;
    mount **at = &(*mounts)->first;
    while (*at != NULL && (*at)->prefix_size > size) {
        at = &(*at)->next;
    }
    made->next = *at;
    *at = made;
    return 0;
}

void at_static_mounts_free(at_static_mounts *mounts)
{
    if (mounts == NULL) {
        return;
    }
    while (mounts->first != NULL) {
        mount *gone = mounts->first;
        mounts->first = gone->next;
        at_file_close(gone->folder);
        at_free(gone);
    }
    at_free(mounts);
}

/* The mount of a decoded path, or NULL. */
static const mount *find(const at_static_mounts *mounts, const char *path, size_t size)
{
    for (const mount *at = mounts->first; at != NULL; at = at->next) {
        if (size >= at->prefix_size && memcmp(path, at->prefix, at->prefix_size) == 0 &&
            (size == at->prefix_size || path[at->prefix_size] == '/')) {
            return at;
        }
    }
    return NULL;
}

/* ---- short answers --------------------------------------------------------------- */

static at_h1_header header(const char *name, const char *value)
{
    return (at_h1_header){{name, strlen(name)}, {value, strlen(value)}};
}

static void answer(at_exchange *exchange, int status, const at_h1_header *extra,
                   size_t count, const char *text)
{
    at_h1_header headers[HEADERS_MAX];
    memcpy(headers, extra, count * sizeof *extra);
    if (text[0] != '\0') {
        headers[count++] = header("content-type", "text/plain; charset=utf-8");
    }
    at_exchange_answer(exchange, status, headers, count, (at_span){text, strlen(text)});
}

static void answer_plain(at_exchange *exchange, int status, const char *text)
{
    static const at_h1_header none = {0};
    answer(exchange, status, &none, 0, text);
}

/* A folder is asked for without the slash at its end, against which links in its
 * index.html would be wrong. */
static void redirect(at_exchange *exchange, const at_h1_request *request)
{
    char location[PATH_MAX_BYTES + 2];
    int size =
        snprintf(location, sizeof location, "%.*s/%s%.*s", (int)request->path.size,
                 request->path.data, request->query.size != 0 ? "?" : "",
                 (int)request->query.size, request->query.data);
    /* "//host" would be another site. */
    if (size < 0 || (size_t)size >= sizeof location ||
        strncmp(location, "//", 2) == 0) {
        answer_plain(exchange, 404, "Not Found");
        return;
    }
    at_h1_header to = header("location", location);
    answer(exchange, 308, &to, 1, "Permanent Redirect");
}

/* ---- streaming ------------------------------------------------------------------- */

static void stream_end(at_static *layer, stream *ended)
{
    if (ended->before != NULL) {
        ended->before->after = ended->after;
    } else {
        layer->streams = ended->after;
    }
    if (ended->after != NULL) {
        ended->after->before = ended->before;
    }
    ended->exchange->user = NULL;
    at_exchange_unref(ended->exchange);
    at_file_close(ended->descriptor);
    at_free(ended);
}

/* The next part straight from the page cache, where that can be done: without TLS and
 * HTTP/2, and with nothing waiting. Returns as at_exchange_write, or NOT_SENT. */
static int send_from_cache(stream *going)
{
    size_t most = going->left < AT_ONCE_BYTES ? (size_t)going->left : AT_ONCE_BYTES;
    long sent =
        at_exchange_send_file(going->exchange, going->descriptor, going->offset, most);
    if (sent <= 0) {
        return sent < 0 ? (int)sent : NOT_SENT;
    }
    going->offset += (uint64_t)sent;
    going->left -= (uint64_t)sent;
    return going->left != 0
               ? 0
               : at_exchange_write(going->exchange, (at_span){NULL, 0}, false);
}

/* Send until the client has enough for now, or has all. */
static void stream_go(at_static *layer, stream *going)
{
    int result = 0;
    while (result == 0 && going->left != 0) {
        result = send_from_cache(going);
        if (result != NOT_SENT) {
            continue;
        }
        size_t want = going->left < CHUNK_BYTES ? (size_t)going->left : CHUNK_BYTES;
        long got =
            at_beneath_read(going->descriptor, layer->chunk, want, going->offset);
        if (got <= 0) {
            /* Cut off meanwhile: fewer bytes than were promised. */
            at_exchange_abort(going->exchange);
            result = AT_ECLOSED;
            break;
        }
        going->offset += (uint64_t)got;
        going->left -= (uint64_t)got;
        result = at_exchange_write(
            going->exchange, (at_span){layer->chunk, (size_t)got}, going->left != 0);
    }
    if (result < 0 || going->left == 0) {
        stream_end(layer, going);
    }
}

/* Answer with head and body; takes the descriptor. */
static void send_file(at_static *layer, at_exchange *exchange, int status,
                      const at_h1_header *headers, size_t count, int descriptor,
                      uint64_t first, uint64_t left)
{
    size_t want = left < CHUNK_BYTES ? (size_t)left : CHUNK_BYTES;
    long got = 0;
    if (exchange->head_request) {
        left = want = 0;
    }
    if (want != 0 &&
        (got = at_beneath_read(descriptor, layer->chunk, want, first)) <= 0) {
        at_file_close(descriptor);
        answer_plain(exchange, 500, "Internal Server Error");
        return;
    }
    left -= (uint64_t)got;
    stream *made = NULL;
    if (left != 0 && (made = at_calloc(1, sizeof *made)) == NULL) {
        at_file_close(descriptor);
        at_exchange_abort(exchange);
        return;
    }
    const char *why;
    at_span piece = {layer->chunk, (size_t)got};
    (void)at_exchange_ref(exchange); /* it may go with its connection */
    int result =
        at_exchange_respond(exchange, status, headers, count, piece, left != 0, &why);
    if (result < 0) {
        at_exchange_abort(exchange);
    }
    if (result < 0 || left == 0) {
        at_free(made);
        at_file_close(descriptor);
        at_exchange_unref(exchange);
        return;
    }
    made->exchange = exchange; /* takes the reference */
    made->descriptor = descriptor;
    made->offset = first + (uint64_t)got;
    made->left = left;
    made->after = layer->streams;
    if (layer->streams != NULL) {
        layer->streams->before = made;
    }
    layer->streams = made;
    exchange->user = made;
    if (result == 0) {
        stream_go(layer, made);
    }
}

/* ---- a request ------------------------------------------------------------------- */

/* No ".", "..", empty segment or hidden file: decoded, `path` begins with '/'. The
 * kernel keeps ".." inside of the folder, but one name for a file is enough, and ".git"
 * is not meant to be seen; RFC 8615 names the exception. */
static bool is_plain(const char *path, size_t size)
{
    if (memchr(path, '\0', size) != NULL) {
        return false;
    }
    for (size_t i = 0; i + 1 < size; i++) {
        if (path[i] == '/' &&
            (path[i + 1] == '/' ||
             (path[i + 1] == '.' && strncmp(path + i, "/.well-known/", 13) != 0))) {
            return false;
        }
    }
    return true;
}

/* The file, or a precompressed form of it that the client takes. `name` is changed and
 * has room for what is appended. Returns 0 or an error. */
static int open_best(const mount *from, char *name, size_t size, bool compressible,
                     const at_h1_request *request, at_beneath_file *file,
                     const char **coding)
{
    static const struct {
        const char *coding, *end;
    } forms[] = {{"br", ".br"}, {"gzip", ".gz"}};
    at_beneath_file plain;
    int result = at_beneath_open(from->folder, name, &plain);
    *coding = NULL;
    if (result < 0 || plain.is_folder || !compressible) {
        *file = plain;
        return result;
    }
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        if (!at_static_accepts(request, forms[i].coding)) {
            continue;
        }
        memcpy(name + size, forms[i].end, strlen(forms[i].end) + 1);
        result = at_beneath_open(from->folder, name, file);
        name[size] = '\0';
        if (result == 0 && !file->is_folder) {
            at_file_close(plain.descriptor);
            *coding = forms[i].coding;
            return 0;
        }
        if (result == 0) {
            at_file_close(file->descriptor);
        }
    }
    *file = plain;
    return 0;
}

static void answer_file(at_static *layer, at_exchange *exchange,
                        const at_h1_request *request, const at_beneath_file *file,
                        const char *type, bool compressible, const char *coding)
{
    char etag[AT_STATIC_ETAG_BYTES], modified[AT_HTTP_DATE_BYTES + 1] = {0};
    char length[24], range[72];
    int64_t seconds = file->modified_ns > 0 ? file->modified_ns / 1000000000 : 0;
    int etag_size =
        snprintf(etag, sizeof etag, "\"%" PRIx64 "-%" PRIx64 "-%" PRIx64 "\"",
                 file->inode, (uint64_t)file->modified_ns, file->size_bytes);
    at_http_date(modified, seconds);
    at_static_facts facts = {{etag, (size_t)etag_size}, seconds, file->size_bytes};
    at_static_verdict verdict = at_static_judge(request, &facts);
    at_h1_header headers[HEADERS_MAX];
    size_t count = 0;
    headers[count++] = header("etag", etag);
    headers[count++] = header("last-modified", modified);
    if (compressible) {
        headers[count++] = header("vary", "accept-encoding");
    }
    if (verdict.status == 200 || verdict.status == 206) {
        headers[count++] = header("content-type", type);
        headers[count++] = header("accept-ranges", "bytes");
        headers[count++] = header("x-content-type-options", "nosniff");
        if (coding != NULL) {
            headers[count++] = header("content-encoding", coding);
        }
        (void)snprintf(length, sizeof length, "%" PRIu64, verdict.count);
        headers[count++] = header("content-length", length);
    }
    if (verdict.status == 206) {
        (void)snprintf(range, sizeof range, "bytes %" PRIu64 "-%" PRIu64 "/%" PRIu64,
                       verdict.first, verdict.first + verdict.count - 1,
                       file->size_bytes);
        headers[count++] = header("content-range", range);
    } else if (verdict.status == 416) {
        (void)snprintf(range, sizeof range, "bytes */%" PRIu64, file->size_bytes);
        headers[count++] = header("content-range", range);
    }
    if (verdict.status == 200 || verdict.status == 206) {
        send_file(layer, exchange, verdict.status, headers, count, file->descriptor,
                  verdict.first, verdict.count);
        return;
    }
    at_file_close(file->descriptor);
    answer(exchange, verdict.status, headers, count,
           verdict.status == 304   ? ""
           : verdict.status == 412 ? "Precondition Failed"
                                   : "Range Not Satisfiable");
}

/* `path` is decoded and below the mount's prefix; it has room for an index's name. */
static void answer_path(at_static *layer, const mount *from, at_exchange *exchange,
                        const at_h1_request *request, char *path, size_t size)
{
    at_span method = request->method;
    bool is_get = method.size == 3 && memcmp(method.data, "GET", 3) == 0;
    if (!is_get && !exchange->head_request) {
        at_h1_header allow = header("allow", "GET, HEAD");
        answer(exchange, 405, &allow, 1, "Method Not Allowed");
        return;
    }
    if (!is_plain(path, size)) {
        answer_plain(exchange, 404, "Not Found");
        return;
    }
    char *name = path + from->prefix_size;
    size -= from->prefix_size;
    bool of_folder = size != 0 && name[size - 1] == '/';
    if (of_folder) {
        memcpy(name + size, "index.html", sizeof "index.html");
        size += sizeof "index.html" - 1;
    }
    name += size != 0; /* its slash */
    size -= size != 0;
    at_beneath_file file;
    bool compressible;
    const char *coding;
    const char *type = at_static_type(name, &compressible);
    if (open_best(from, name, size, compressible, request, &file, &coding) < 0) {
        answer_plain(exchange, 404, "Not Found");
    } else if (file.is_folder) {
        at_file_close(file.descriptor);
        if (of_folder) {
            answer_plain(exchange, 404, "Not Found");
        } else {
            redirect(exchange, request);
        }
    } else {
        answer_file(layer, exchange, request, &file, type, compressible, coding);
    }
}

/* ---- the hooks ------------------------------------------------------------------- */

static void on_request(void *context, at_exchange *exchange,
                       const at_h1_request *request)
{
    at_static *layer = context;
    char path[PATH_MAX_BYTES + 32];
    if (request->path.size <= PATH_MAX_BYTES) {
        size_t size = at_h1_decode_path(request->path, path);
        path[size] = '\0';
        const mount *from = find(layer->mounts, path, size);
        if (from != NULL) {
            exchange->is_static = true;
            answer_path(layer, from, exchange, request, path, size);
            return;
        }
    }
    layer->above->request(layer->context, exchange, request);
}

static void on_body(void *context, at_exchange *exchange)
{
    at_static *layer = context;
    if (!exchange->is_static) {
        layer->above->body(layer->context, exchange);
    }
}

static void on_writable(void *context, at_exchange *exchange)
{
    at_static *layer = context;
    if (!exchange->is_static) {
        layer->above->writable(layer->context, exchange);
    } else if (exchange->user != NULL) {
        stream_go(layer, exchange->user);
    }
}

static void on_lost(void *context, at_exchange *exchange)
{
    at_static *layer = context;
    if (!exchange->is_static) {
        layer->above->lost(layer->context, exchange);
    }
    /* A stream goes on where the client has only said that it sends no more. Where it
     * has gone, a stream that waits is told by `writable`, and one that writes finds
     * out there. */
}

static void on_forget(void *context, void *connection_user)
{
    at_static *layer = context;
    layer->above->forget(layer->context, connection_user);
}

static void on_drain(void *context)
{
    at_static *layer = context;
    layer->above->drain(layer->context);
}

static void on_drained(void *context)
{
    at_static *layer = context;
    layer->above->drained(layer->context);
}

static void on_complain(void *context, const char *text)
{
    at_static *layer = context;
    if (layer->above->complain != NULL) {
        layer->above->complain(layer->context, text);
    }
}

const at_hooks at_static_hooks = {
    .request = on_request,
    .body = on_body,
    .writable = on_writable,
    .lost = on_lost,
    .forget = on_forget,
    .drain = on_drain,
    .drained = on_drained,
    .complain = on_complain,
};

at_static *at_static_new(const at_static_mounts *mounts, const at_hooks *above,
                         void *context)
{
    at_static *layer = at_calloc(1, sizeof *layer);
    if (layer != NULL) {
        layer->mounts = mounts;
        layer->above = above;
        layer->context = context;
    }
    return layer;
}

void at_static_free(at_static *layer)
{
    if (layer != NULL) {
        while (layer->streams != NULL) {
            stream_end(layer, layer->streams);
        }
        at_free(layer);
    }
}
