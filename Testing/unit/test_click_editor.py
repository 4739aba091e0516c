"""The editor of clicks, on segments that are plain lists: every front end has this behaviour."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from CTSAM3DLib.clicks.click import Click
from CTSAM3DLib.errors import ClickError, CTSAM3DError
from CTSAM3DLib.interaction.click_editor import ClickEditor

A, B, C = (Click((float(n), 0.0, 0.0)) for n in range(3))
OUTSIDE = Click((9.0, 0.0, 0.0), positive=False)


class Segments:
    """Segments by name with the lists of their masks and the pending ones; masks come when `answer` is called.

    With a `history` every mask is a state of all segments to go back to, as in Slicer's.
    """

    def __init__(self, *names):
        self.masks = {name: [] for name in names}
        self.pending = {}
        self.asked = []
        self.on_their_way = []

    def is_there(self, segment):
        return segment in self.masks

    def clicks(self, segment):
        return list(self.pending.get(segment, self.masks[segment]))

    def mask_clicks(self, segment):
        return list(self.masks[segment])

    def is_pending(self, segment):
        return segment in self.pending

    def keep(self, segment, clicks):
        self.pending[segment] = list(clicks)

    def drop(self, segment):
        self.pending.pop(segment, None)
        self.on_their_way = [other for other in self.on_their_way if other != segment]

    def predict(self, choice, segment, clicks):
        if Click((404.0, 0.0, 0.0)) in clicks:
            raise ClickError("Click outside the volume.")
        self.asked.append((choice, segment, list(clicks)))
        self.keep(segment, clicks)
        self.on_their_way = [*(other for other in self.on_their_way if other != segment), segment]
        if not any(click.positive for click in clicks):
            self.answer(segment)  # an empty mask needs no network

    def answer(self, *segments):
        for segment in segments or list(self.on_their_way):
            self.written(segment)
            self.masks[segment] = self.pending.pop(segment)
        self.on_their_way = [other for other in self.on_their_way if other in self.pending]

    def fail(self):
        self.on_their_way = []

    def written(self, segment):
        """Just before a mask is written."""


class WithHistory(Segments):
    """Segments whose masks are steps of a history, which knows names, too."""

    def __init__(self, *names):
        super().__init__(*names)
        self.name = ""
        self._back, self._forward = [], []

    def _state(self):
        return {name: list(clicks) for name, clicks in self.masks.items()}, self.name

    def save(self):
        self._back.append(self._state())
        self._forward.clear()

    def written(self, segment):
        self.save()

    def rename(self, name):
        self.save()
        self.name = name

    def can_undo(self):
        return bool(self._back)

    def can_redo(self):
        return bool(self._forward)

    def undo(self):
        self._forward.append(self._state())
        self.masks, self.name = self._back.pop()

    def redo(self):
        self._back.append(self._state())
        self.masks, self.name = self._forward.pop()


def editor_of(segments, history=None):
    return ClickEditor(segments, lambda: "backend", segments.predict, history)


@pytest.fixture
def segments():
    return Segments("liver", "spleen")


@pytest.fixture
def editor(segments):
    return editor_of(segments)


def test_every_edit_asks_for_the_mask_of_another_list(editor, segments):
    editor.add("liver", A)
    editor.add("liver", B)
    editor.replace("liver", [A, C])
    editor.remove("liver", 0)
    assert [clicks for _, _, clicks in segments.asked] == [[A], [A, B], [A, C], [C]]
    segments.answer()
    editor.clear("liver")
    assert segments.clicks("liver") == []
    assert not segments.is_pending("liver")
    editor.clear("liver")  # there is nothing to take away
    assert len(segments.asked) == 5


def test_undo_takes_every_kind_of_edit_back_and_redo_takes_it_anew(editor, segments):
    lists = [[], [A], [A, B], [C, B], [B], []]
    edits = (
        lambda: editor.add("liver", A),
        lambda: editor.add("liver", B),
        lambda: editor.replace("liver", [C, B]),
        lambda: editor.remove("liver", 0),
        lambda: editor.clear("liver"),
    )
    for edit in edits:
        edit()
        segments.answer()
    for clicks in reversed(lists[:-1]):
        assert editor.can_undo("liver")
        editor.undo("liver")
        segments.answer()
        assert segments.clicks("liver") == clicks
    assert not editor.can_undo("liver")
    assert not editor.undo("liver")
    for clicks in lists[1:]:
        assert editor.can_redo("liver")
        editor.redo("liver")
        segments.answer()
        assert segments.clicks("liver") == clicks
    assert not editor.can_redo("liver")


def test_clicks_on_their_way_go_back_one_at_a_time_and_the_last_is_only_dropped(editor, segments):
    editor.add("liver", A)
    segments.answer()
    editor.add("liver", B)
    editor.add("liver", C)
    assert not editor.undo("liver")
    assert segments.asked[-1] == ("backend", "liver", [A, B])
    assert editor.undo("liver")
    assert len(segments.asked) == 4
    assert not segments.is_pending("liver")
    assert segments.on_their_way == []
    editor.redo("liver")
    editor.redo("liver")
    segments.answer()
    assert segments.masks["liver"] == [A, B, C]


def test_redo_of_what_the_mask_is_still_of_computes_nothing(editor, segments):
    editor.add("liver", A)
    editor.add("liver", B)
    segments.answer()
    editor.undo("liver")
    assert editor.redo("liver")
    assert not segments.is_pending("liver")
    assert segments.masks["liver"] == [A, B]


def test_a_failed_click_is_taken_back_alone_and_can_be_tried_again(editor, segments):
    editor.add("liver", A)
    segments.answer()
    editor.add("liver", B)
    segments.fail()
    editor.try_again("liver")
    assert segments.asked[-1][2] == [A, B]
    segments.fail()
    assert editor.undo("liver")
    assert segments.clicks("liver") == [A]
    editor.try_again("liver")  # nothing waits any more
    assert len(segments.asked) == 3


def test_a_cancel_keeps_masks_and_redo_brings_all_clicks_back_at_once(editor, segments):
    editor.add("liver", A)
    segments.answer()
    editor.add("liver", B)
    editor.add("liver", C)
    editor.add("spleen", A)
    editor.cancel(segments.on_their_way)
    assert segments.pending == {}
    assert segments.masks == {"liver": [A], "spleen": []}
    assert editor.last_taken_back() == ["liver", "spleen"]
    for segment in editor.last_taken_back():
        editor.redo(segment)
    segments.answer()
    assert segments.masks == {"liver": [A, B, C], "spleen": [A]}
    assert editor.last_taken_back() == []
    editor.undo("liver")
    assert segments.clicks("liver") == [A]


def test_another_edit_is_another_way_from_which_nothing_is_redone(editor, segments):
    editor.add("liver", A)
    editor.add("spleen", A)
    editor.cancel(segments.on_their_way)
    editor.add("liver", B)
    assert not editor.can_redo("liver")
    assert editor.last_taken_back() == ["spleen"]


def test_steps_hold_only_where_the_list_is_the_one_they_lead_from(editor, segments):
    for click in (A, B):
        editor.add("liver", click)
        segments.answer()
    segments.masks["liver"] = [A]  # the Segment Editor's own undo
    editor.undo("liver")
    segments.answer()
    assert segments.clicks("liver") == []
    segments.masks["liver"] = [C, B]  # a scene was loaded
    assert not editor.can_redo("liver")
    editor.undo("liver")
    assert segments.clicks("liver") == [C]


def test_segments_that_are_gone_have_nothing_to_redo(editor, segments):
    editor.add("liver", A)
    editor.cancel(["liver"])
    del segments.masks["liver"]
    assert editor.last_taken_back() == []
    editor.cancel(["liver"])


def test_forgetting_leaves_nothing_to_redo(editor, segments):
    editor.add("liver", A)
    editor.cancel(["liver"])
    editor.forget()
    assert not editor.can_redo("liver")


def test_clicks_outside_alone_are_kept_and_ask_for_one_inside(editor, segments):
    with pytest.raises(ClickError, match="So far all clicks are outside"):
        editor.add("liver", OUTSIDE)
    assert segments.pending == {"liver": [OUTSIDE]}
    assert segments.asked == []
    editor.add("liver", A)
    segments.answer()
    assert segments.masks["liver"] == [OUTSIDE, A]
    editor.remove("liver", 1)  # the mask was made by clicks, so that it follows them
    assert segments.masks["liver"] == [OUTSIDE]
    with pytest.raises(ClickError, match="So far all clicks are outside"):
        editor.add("liver", OUTSIDE)


def test_undo_of_the_first_click_outside_leaves_nothing_pending(editor, segments):
    with pytest.raises(ClickError):
        editor.add("liver", OUTSIDE)
    assert editor.undo("liver")
    assert segments.pending == {}
    with pytest.raises(ClickError, match="So far all clicks are outside"):
        editor.redo("liver")
    assert segments.pending == {"liver": [OUTSIDE]}


def test_a_refused_click_is_no_step(editor, segments):
    editor.add("liver", A)
    segments.answer()
    editor.undo("liver")
    segments.answer()
    with pytest.raises(ClickError, match="outside the volume"):
        editor.add("liver", Click((404.0, 0.0, 0.0)))
    assert segments.clicks("liver") == []
    assert editor.can_redo("liver")
    editor.redo("liver")
    segments.answer()
    with pytest.raises(ClickError, match="outside the volume"):
        editor.add("liver", Click((404.0, 0.0, 0.0)))
    editor.undo("liver")
    assert segments.clicks("liver") == []


def test_clicks_wait_for_a_backend_that_may_be_asked(segments):
    refusal = [CTSAM3DError("Nothing is sent before you agree.")]

    def choose():
        for error in refusal:
            raise error
        return "backend"

    editor = ClickEditor(segments, choose, segments.predict)
    with pytest.raises(CTSAM3DError, match="before you agree"):
        editor.add("liver", A)
    assert segments.pending == {"liver": [A]}
    refusal.clear()
    editor.try_again("liver")
    segments.answer()
    assert segments.masks["liver"] == [A]


class TestHistory:
    """Where the front end has a history, steps that have their masks are its own."""

    @pytest.fixture
    def segments(self):
        return WithHistory("liver", "spleen")

    @pytest.fixture
    def editor(self, segments):
        return editor_of(segments, segments)

    def test_it_brings_masks_and_names_back_without_the_network(self, editor, segments):
        editor.add("liver", A)
        segments.answer()
        segments.rename("Liver")
        editor.add("liver", B)
        segments.answer()
        for clicks, name in (([A], "Liver"), ([A], ""), ([], "")):
            assert editor.can_undo("liver")
            editor.undo("liver")
            assert (segments.clicks("liver"), segments.name) == (clicks, name)
        assert not editor.can_undo("liver")
        for clicks, name in (([A], ""), ([A], "Liver"), ([A, B], "Liver")):
            assert editor.can_redo("liver")
            editor.redo("liver")
            assert (segments.clicks("liver"), segments.name) == (clicks, name)
        assert len(segments.asked) == 2

    def test_clicks_without_a_mask_are_taken_back_before_its_steps(self, editor, segments):
        editor.add("liver", A)
        segments.answer()
        editor.add("liver", B)
        editor.add("liver", C)
        segments.fail()
        editor.undo("liver")
        assert segments.clicks("liver") == [A, B]
        assert editor.undo("liver")
        assert segments.clicks("liver") == [A]
        editor.undo("liver")
        assert segments.clicks("liver") == []
        for clicks in ([A], [A, B], [A, B, C]):
            editor.redo("liver")
            assert segments.clicks("liver") == clicks


class AnyUse(RuleBasedStateMachine):
    """Whatever is done in whatever order: undo and redo are each other's opposite, and no list is lost."""

    def __init__(self):
        super().__init__()
        self.segments = Segments("liver")
        self.editor = editor_of(self.segments)

    @rule(x=st.integers(0, 3), positive=st.booleans())
    def add(self, x, positive):
        try:
            self.editor.add("liver", Click((float(x), 0.0, 0.0), positive))
        except ClickError:
            assert self.segments.is_pending("liver")

    @rule(number=st.integers(0, 3))
    def remove(self, number):
        try:
            self.editor.remove("liver", number)
        except ClickError:
            assert self.segments.is_pending("liver")

    @rule()
    def clear(self):
        self.editor.clear("liver")

    @rule()
    def answer(self):
        self.segments.answer()

    @rule()
    def cancel(self):
        seen = self.segments.clicks("liver")
        on_their_way = list(self.segments.on_their_way)
        self.editor.cancel(on_their_way)
        if on_their_way and seen != self.segments.clicks("liver"):
            try:
                self.editor.redo("liver")
            except ClickError:
                assert self.segments.is_pending("liver")
            assert self.segments.clicks("liver") == seen

    @rule()
    def there_and_back(self):
        seen = self.segments.clicks("liver")
        if not self.editor.can_undo("liver"):
            return
        for step in (self.editor.undo, self.editor.redo):
            try:
                step("liver")
            except ClickError:
                assert self.segments.is_pending("liver")
        assert self.segments.clicks("liver") == seen

    @invariant()
    def what_is_seen_can_be_taken_back(self):
        assert self.editor.can_undo("liver") or not self.segments.clicks("liver")


TestAnyUse = AnyUse.TestCase
TestAnyUse.settings = settings(max_examples=25, deadline=None)
