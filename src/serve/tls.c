/* ASGI's tls extension (https://asgi.readthedocs.io/en/latest/specs/tls.html). */
#define PY_SSIZE_T_CLEAN
#include "net/tls.h"

#include "serve/worker.h"

/* What an at_tls function has appended, as a str; None where it says that there is
 * nothing. Empties `bytes`. */
static PyObject *text_of(int result, at_bytes *bytes)
{
    PyObject *text =
        result < 0 ? PyErr_NoMemory()
        : result == 0
            ? Py_NewRef(Py_None)
            : PyUnicode_DecodeUTF8(bytes->data, (Py_ssize_t)bytes->size, "replace");
    at_bytes_fini(bytes);
    return text;
}

static PyObject *client_chain(const at_tls *tls)
{
    PyObject *chain = PyList_New(0);
    for (int i = 0; chain != NULL; i++) {
        at_bytes pem = {NULL, 0, 0};
        PyObject *text = text_of(at_tls_client_certificate(tls, i, &pem), &pem);
        if (text == Py_None) {
            Py_DECREF(text);
            break;
        }
        if (text == NULL || PyList_Append(chain, text) < 0) {
            Py_CLEAR(chain);
        }
        Py_XDECREF(text);
    }
    return chain;
}

PyObject *at_tls_dict(const at_tls *tls)
{
    at_bytes pem = {NULL, 0, 0};
    at_bytes name = {NULL, 0, 0};
    PyObject *server = text_of(at_tls_server_certificate(tls, &pem), &pem);
    PyObject *client = text_of(at_tls_client_name(tls, &name), &name);
    PyObject *chain = client_chain(tls);
    PyObject *dict = NULL;
    if (server != NULL && client != NULL && chain != NULL) {
        /* A client whose certificate is not good gets no further than the handshake. */
        dict = Py_BuildValue("{sOsOsOsOsisi}", "server_cert", server,
                             "client_cert_chain", chain, "client_cert_name", client,
                             "client_cert_error", Py_None, "tls_version",
                             at_tls_version(tls), "cipher_suite", at_tls_cipher(tls));
    }
    Py_XDECREF(server);
    Py_XDECREF(client);
    Py_XDECREF(chain);
    return dict;
}
