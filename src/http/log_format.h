/* The lines of an access log: a format with atoms in it, or JSON.
 *
 * Atoms are written as in gunicorn, "%(h)s":
 *   h client's address    l "-"                 u user, as the client claims it in
 *                                                 Authorization: Basic
 *   t time, in brackets   r request line        m method       U path      q query
 *   H protocol            s status              B body bytes   b the same, "-" for none
 *   f Referer             a User-Agent          p process, in <>
 *   T, M, D seconds, milliseconds, microseconds that it took, as integers; L as decimal
 *   {name}i a request's header                  {name}o a response's
 *
 * Nothing that a client sends ends or forges a line: control characters, quotes,
 * backslashes and bytes that are not ASCII are escaped.
 */
#ifndef AT_HTTP_LOG_FORMAT_H
#define AT_HTTP_LOG_FORMAT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/error.h"
#include "base/span.h"

enum { AT_LOG_FIELDS_MAX = 16 };

/* What a line is about; what is not known is empty. */
typedef struct at_log_record {
    at_span peer, method, target, protocol;
    at_span clf_time; /* "10/Oct/2000:13:55:36 -0700" */
    at_span iso_time; /* "2000-10-10T13:55:36.123-07:00" */
    int status;       /* 0: there was no response */
    int process;
    uint64_t sent_bytes;
    int64_t duration_ns;
    at_span
        fields[AT_LOG_FIELDS_MAX]; /* of headers, as at_log_format_field names them */
} at_log_record;

typedef struct at_log_format at_log_format;

/* "common", "combined", "json", or a format of its own.
 * ctx:  any
 * owns: the caller frees it
 * errs: AT_ENOMEM; AT_EFORMAT and AT_ELIMIT, and the fault says which atom is wrong */
int at_log_format_new(at_log_format **format, at_span text, at_fault *fault);
void at_log_format_free(at_log_format *format);

/* The header whose value belongs into fields[index]; false past the last. Lower case.
 */
bool at_log_format_field(const at_log_format *format, size_t index, at_span *name,
                         bool *of_response);

/* Append the record's line, with its end.
 * errs: AT_ENOMEM, and then `out` is as it was */
int at_log_format_write(const at_log_format *format, const at_log_record *record,
                        at_bytes *out);

#endif
