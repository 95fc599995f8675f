/* Tokens, field values, lists and percent-encoding; see h1.h. */
#include "http/h1_text.h"

#include <string.h>

#include "http/h1.h"
#include "http/scan.h"

/* A token's characters (RFC 9110 5.6.2) with letters in lower case; 0 for all others.
 */
const char at_h1_token_lower[256] = {
    ['!'] = '!', ['#'] = '#', ['$'] = '$', ['%'] = '%', ['&'] = '&', ['\''] = '\'',
    ['*'] = '*', ['+'] = '+', ['-'] = '-', ['.'] = '.', ['^'] = '^', ['_'] = '_',
    ['`'] = '`', ['|'] = '|', ['~'] = '~', ['0'] = '0', ['1'] = '1', ['2'] = '2',
    ['3'] = '3', ['4'] = '4', ['5'] = '5', ['6'] = '6', ['7'] = '7', ['8'] = '8',
    ['9'] = '9', ['A'] = 'a', ['B'] = 'b', ['C'] = 'c', ['D'] = 'd', ['E'] = 'e',
    ['F'] = 'f', ['G'] = 'g', ['H'] = 'h', ['I'] = 'i', ['J'] = 'j', ['K'] = 'k',
    ['L'] = 'l', ['M'] = 'm', ['N'] = 'n', ['O'] = 'o', ['P'] = 'p', ['Q'] = 'q',
    ['R'] = 'r', ['S'] = 's', ['T'] = 't', ['U'] = 'u', ['V'] = 'v', ['W'] = 'w',
    ['X'] = 'x', ['Y'] = 'y', ['Z'] = 'z', ['a'] = 'a', ['b'] = 'b', ['c'] = 'c',
    ['d'] = 'd', ['e'] = 'e', ['f'] = 'f', ['g'] = 'g', ['h'] = 'h', ['i'] = 'i',
    ['j'] = 'j', ['k'] = 'k', ['l'] = 'l', ['m'] = 'm', ['n'] = 'n', ['o'] = 'o',
    ['p'] = 'p', ['q'] = 'q', ['r'] = 'r', ['s'] = 's', ['t'] = 't', ['u'] = 'u',
    ['v'] = 'v', ['w'] = 'w', ['x'] = 'x', ['y'] = 'y', ['z'] = 'z',
};

int at_h1_hex_digit(char digit)
{
    if (digit >= '0' && digit <= '9') {
        return digit - '0';
    }
    char lower = (char)(digit | 0x20);
    return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

bool at_h1_is_token(at_span name)
{
    for (size_t i = 0; i < name.size; i++) {
        if (at_h1_lower(name.data[i]) == 0) {
            return false;
        }
    }
    return name.size != 0;
}

bool at_h1_is_field_value(at_span value)
{
    if (value.size == 0) {
        return true; /* perhaps without data */
    }
    const char *end = value.data + value.size;
    return at_scan_value(value.data, end) == end;
}

bool at_h1_equal(at_span text, const char *lower)
{
    size_t i = 0;
    for (; i < text.size && lower[i] != '\0'; i++) {
        char byte = text.data[i];
        if (byte >= 'A' && byte <= 'Z') {
            byte = (char)(byte | 0x20);
        }
        if (byte != lower[i]) {
            return false;
        }
    }
    return i == text.size && lower[i] == '\0';
}

at_span at_h1_trim(at_span text)
{
    while (text.size != 0 && at_h1_is_space(text.data[0])) {
        text.data++;
        text.size--;
    }
    while (text.size != 0 && at_h1_is_space(text.data[text.size - 1])) {
        text.size--;
    }
    return text;
}

bool at_h1_next_element(at_span *rest, at_span *element)
{
    while (rest->size != 0) {
        const char *comma = memchr(rest->data, ',', rest->size);
        size_t size = comma != NULL ? (size_t)(comma - rest->data) : rest->size;
        size_t taken = comma != NULL ? size + 1 : size;
        *element = at_h1_trim((at_span){rest->data, size});
        *rest = (at_span){rest->data + taken, rest->size - taken};
        if (element->size != 0) {
            return true;
        }
    }
    return false;
}

bool at_h1_has_token(at_span value, const char *token)
{
    at_span element;
    while (at_h1_next_element(&value, &element)) {
        if (at_h1_equal(element, token)) {
            return true;
        }
    }
    return false;
}

size_t at_h1_decode_path(at_span encoded, char *decoded)
{
    size_t size = 0;
    for (size_t i = 0; i < encoded.size;) {
        const char *percent = memchr(encoded.data + i, '%', encoded.size - i);
        size_t plain =
            percent != NULL ? (size_t)(percent - encoded.data) - i : encoded.size - i;
        memmove(decoded + size, encoded.data + i, plain);
        size += plain;
        i += plain;
        if (percent == NULL) {
            break;
        }
        int high = encoded.size - i > 2 ? at_h1_hex_digit(percent[1]) : -1;
        int low = encoded.size - i > 2 ? at_h1_hex_digit(percent[2]) : -1;
        if (high >= 0 && low >= 0) {
            decoded[size++] = (char)(high << 4 | low);
            i += 3;
        } else {
            decoded[size++] = '%';
            i++;
        }
    }
    return size;
}
