/* What differs between the machines that atoll runs on. */
#ifndef AT_ELF_MACHINE_H
#define AT_ELF_MACHINE_H

#include <elf.h>

/* Newer than the oldest headers that atoll is built with. */
#ifndef DT_RELR
#define DT_RELRSZ 35
#define DT_RELR 36
#endif

#if defined(__x86_64__)
enum {
    AT_ELF_MACHINE = EM_X86_64,
    AT_ELF_RELOCATION_ADDRESS = R_X86_64_64, /* symbol + addend */
    AT_ELF_RELOCATION_GLOBAL = R_X86_64_GLOB_DAT,
    AT_ELF_RELOCATION_CALL = R_X86_64_JUMP_SLOT,
    AT_ELF_RELOCATION_IFUNC = R_X86_64_IRELATIVE,
    AT_ELF_CACHE_FLAGS = 0x0303, /* of ld.so.cache: ELF, libc6, x86-64 */
};
#define AT_ELF_DEFAULT_FOLDERS                                                         \
    "/lib/x86_64-linux-gnu:/usr/lib/x86_64-linux-gnu:/lib64:/usr/lib64:/lib:/usr/lib"
#elif defined(__aarch64__)
enum {
    AT_ELF_MACHINE = EM_AARCH64,
    AT_ELF_RELOCATION_ADDRESS = R_AARCH64_ABS64,
    AT_ELF_RELOCATION_GLOBAL = R_AARCH64_GLOB_DAT,
    AT_ELF_RELOCATION_CALL = R_AARCH64_JUMP_SLOT,
    AT_ELF_RELOCATION_IFUNC = R_AARCH64_IRELATIVE,
    AT_ELF_CACHE_FLAGS = 0x0a03, /* ELF, libc6, aarch64 */
};
#define AT_ELF_DEFAULT_FOLDERS                                                         \
    "/lib/aarch64-linux-gnu:/usr/lib/aarch64-linux-gnu:/lib64:/usr/lib64:/lib:/usr/"   \
    "lib"
#else
#error "atoll runs on x86-64 and aarch64"
#endif

#endif
