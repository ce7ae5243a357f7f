"""Arbitrary messages of either direction."""

from hypothesis import strategies as st

from exec_wrapper.wire import (
    EPOCH_BYTES,
    SEED_BYTES,
    Applied,
    ApplyUpdates,
    CancelState,
    Execute,
    Executed,
    Failed,
    FromWrapper,
    Hello,
    NextPart,
    Ping,
    Pong,
    SetPart,
    SetState,
    StatePart,
    StateSet,
    Sync,
    Synced,
    TakeState,
    ToWrapper,
    WrapperHello,
)

u16 = st.integers(0, 2**16 - 1)
u32 = st.integers(0, 2**32 - 1)
u64 = st.integers(0, 2**64 - 1)
payloads = st.binary(max_size=200)
epochs = st.binary(min_size=EPOCH_BYTES, max_size=EPOCH_BYTES)
seeds = st.binary(min_size=SEED_BYTES, max_size=SEED_BYTES)
texts = st.text(max_size=100)
updates = st.lists(st.tuples(u64, payloads), max_size=5).map(tuple)

to_wrapper: st.SearchStrategy[ToWrapper] = st.one_of(
    st.builds(Hello, epochs, u32, u32, u16, epochs),
    st.builds(Ping, u64),
    st.builds(Execute, u64, u64, u64, seeds, payloads),
    st.builds(ApplyUpdates, u64, u64, updates),
    st.builds(TakeState, u64, u64, u32),
    st.builds(NextPart, u32),
    st.builds(CancelState, u64),
    st.builds(SetState, u64, u32),
    st.builds(SetPart, u32, st.booleans(), payloads),
    st.just(Sync()),
)

from_wrapper: st.SearchStrategy[FromWrapper] = st.one_of(
    st.builds(WrapperHello, epochs, u64, u32, st.booleans(), texts, texts, texts, u16),
    st.builds(Pong, u64),
    st.builds(Executed, u64, payloads, payloads),
    st.builds(Applied, u64),
    st.builds(Synced, u64),
    st.builds(StatePart, u64, u32, st.booleans(), payloads),
    st.builds(StateSet, u64),
    st.builds(Failed, texts),
)
