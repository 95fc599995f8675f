/* Uses a function and data of libkeeper and does not name it as needed: whatever links
 * with this one links with that one, too. */
extern long keeper_count;
long keeper_add(void);
__attribute__((visibility("default"))) long silent_add(void);

long silent_add(void)
{
    return keeper_add() == keeper_count ? keeper_count : -1;
}
