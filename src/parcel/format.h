/* The bytes of a parcel: what pack.c writes and unpack.c reads.
 *
 *     parcel  = MAGIC VERSION object
 *     object  = tag payload          (AT_TAG_MEMO may be set in the tag)
 *     size    = LEB128, at most 10 bytes
 *
 * A tag with AT_TAG_MEMO says that the object gets the next number of the memo, for
 * AT_TAG_AGAIN to name: mutable containers before their items, so that they may contain
 * themselves; all others when they are complete. A tuple, frozenset or reduced object
 * that turned out to contain itself was written completely inside itself: its outer
 * copy is marked _INSIDE, ends with its number, and is thrown away by the reader.
 */
#ifndef AT_PARCEL_FORMAT_H
#define AT_PARCEL_FORMAT_H

enum {
    AT_PARCEL_MAGIC = 0xA7,
    AT_PARCEL_VERSION = 1,
    AT_TAG_MEMO = 0x80,
};

enum at_parcel_tag {
    AT_TAG_NONE,
    AT_TAG_TRUE,
    AT_TAG_FALSE,
    AT_TAG_ELLIPSIS,
    AT_TAG_NOTIMPLEMENTED,
    AT_TAG_INT8,
    AT_TAG_INT32,
    AT_TAG_INT64,
    AT_TAG_INT,     /* size, little-endian two's complement */
    AT_TAG_FLOAT,   /* 8 bytes of the machine */
    AT_TAG_COMPLEX, /* 16 */
    AT_TAG_STR1,    /* size in characters, then 1, 2 or 4 bytes each */
    AT_TAG_STR2,
    AT_TAG_STR4,
    AT_TAG_BYTES, /* size, bytes */
    AT_TAG_BYTEARRAY,
    AT_TAG_TUPLE, /* size, objects */
    AT_TAG_TUPLE_INSIDE,
    AT_TAG_LIST,
    AT_TAG_DICT, /* size, key and value each */
    AT_TAG_SET,
    AT_TAG_FROZENSET,
    AT_TAG_FROZENSET_INSIDE,
    AT_TAG_SLICE, /* start, stop, step */
    AT_TAG_RANGE,
    AT_TAG_AGAIN,  /* number in the memo */
    AT_TAG_GLOBAL, /* module name, qualified name (empty: the module) */
    /* callable, arguments (a tuple), parts; then as the parts say: list items and END,
     * keys and values and END, state, setter of the state */
    AT_TAG_REDUCE,
    AT_TAG_REDUCE_INSIDE, /* callable, arguments, number in the memo */
    AT_TAG_HANDLE,        /* position of the attachment */
    AT_TAG_BUFFER,        /* read-only (1 byte), size, bytes */
    AT_TAG_BUFFER_BLOCK,  /* position of the attachment */
    AT_TAG_END,
    AT_TAG_BYTES_BLOCK, /* position of the attachment */
    /* token (16 bytes), size (4 of the machine), bytes: what known.received takes */
    AT_TAG_KNOWN,
    AT_TAG_TUPLE_ROW, /* size, words of 8 bytes: row.h */
    AT_TAG_LIST_ROW,
};

/* Which parts of a reduced object follow. */
enum {
    AT_PART_ITEMS = 1,
    AT_PART_PAIRS = 2,
    AT_PART_STATE = 4,
    AT_PART_SETTER = 8,
};

#endif
