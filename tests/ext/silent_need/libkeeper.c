/* A plain library with state, which libsilent uses without naming it. */
__attribute__((visibility("default"))) long keeper_count;
__attribute__((visibility("default"))) long keeper_add(void);

long keeper_add(void)
{
    return ++keeper_count;
}
