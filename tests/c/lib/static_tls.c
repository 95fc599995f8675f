/* Thread-local data that the loader must place in every thread's static block, where it
 * has little room to spare. Volatile, or an optimiser answers without the block. */
enum { BLOCK_BYTES = 600 };
static __thread volatile char block[BLOCK_BYTES]
    __attribute__((tls_model("initial-exec"))) = "!";

int static_tls_first(void);
int static_tls_first(void)
{
    return block[0];
}
