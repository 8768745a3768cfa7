"""What a voice reads of Markdown, HTML and formulas, and what it leaves out."""

# ruff: noqa: RUF001 - the marks of many languages are the subject of these tests

from __future__ import annotations

import pytest

from handler_base.conversation.speech import SpeechCutter


def said(text: str) -> str:
    """Return what is spoken of an answer, its pieces parted by bars."""
    cutter = SpeechCutter(early=False)
    pieces = [piece for char in text for piece in cutter.feed(char)]
    pieces += cutter.close()
    assert "".join(piece.source for piece in pieces) + cutter.unspoken == text
    return "|".join(piece.text for piece in pieces)


INLINE = [
    ("**bold** and *it* and _it_ and ***both*** and ~~gone~~ here", "bold and it and it and both and gone here"),
    ("**“Quoted.”** *Now.* __So.__", "“Quoted.”|Now.|So."),
    ("这是**重点**和*斜体*和_线_内容", "这是重点和斜体和线内容"),
    ("snake_case_name and a__b and 2*3 and 4 * 5 and 2**3 and x*y", "snake_case_name and a__b and 2*3 and 4 * 5 and 2**3 and x*y"),
    ("about ~10 of C# and #1 and #tag ## end", "about ~10 of C# and #1 and #tag end"),
    ("fill ____ in and *note", "fill in and note"),
    ("use `a_b*c` or ``x`y`` now", "use a_b*c or xy now"),
    ("run `main.py. Now` please. Yes.", "run main.py. Now please.|Yes."),
    ("an open ` tick\nends. With the line. Yes.", "an open tick ends.|With the line.|Yes."),
    ("an open ` " + "word " * 25 + "ends. After a while.", "an open " + "word " * 25 + "ends.|After a while."),
    ("a ```code``` span", "a code span"),
    ("a [link](https://a.b/c) here", "a link here"),
    ('a [link](https://a.b/c(d)e "The (title)") here', "a link here"),
    ("a [link](<b> c\nd", "a link c d"),
    ("a [link](b 'c\nd", "a link d"),
    ("a [link](b ) c", "a link c"),
    ("a [link](b\nc", "a link c"),
    ("see ![a cat](cat.png) and [![logo](l.png)](https://x.y) now", "see a cat and logo now"),
    ("Wow![1] Then ! comes", "Wow!|Then !|comes"),
    ("So [1] it [2, 3] is [4-6][7]. And[^1] so[^note].", "So it is.|And so."),
    ("So [1](https://a.b) it is【4:0†source】. 【重要】です", "So it is.|【重要】です"),
    ("[1] First\n\n[^1]: Second", "First.|Second"),
    ("never [closed and more", "never closed and more"),
    ("a [12 days] and [1", "a 12 days and 1"),
    ("a ] b [] c", "a b c"),
    ("at https://user:pw@www.example.com:80/a_b?c=d#e. Or www.example.org, or http://a.b!", "at example.com.|Or example.org, or a.b!"),
    ("(see https://a.b/c_(d)) or <https://c.d/e> or <me@a.b>", "(see a.b) or c.d or me@a.b"),
    ("访问https://a.b/c。好", "访问a.b。|好"),
    ("how http works and https: ftp", "how http works and https: ftp"),
    ("a https://" + "x" * 300 + " b", "a|" + "x" * 240 + "|" + "x" * 15 + " b"),
    ("a https://b.c/d........................ e", "a b.c....... e"),
    ("<b>bold</b> a<br/>b <!-- no --> </> end", "bold a b end"),
    ("a < b and x<3 and <", "a < b and x<3 and <"),
    ("a <b and\nno tag", "a <b and no tag"),
    ("<p>One</p><p>Two</p>", "One.|Two."),
    ("<" + "a" * 250 + ">", "<" + "a" * 239 + "|" + "a" * 11 + ">"),
    ("Q&amp;A &lt;x&gt; &#8364;5 &nbsp;&nbsp;so &unknown; & co &", "Q&A <x> €5 so &unknown; & co &"),
    ("costs $5 and US$ 7, $x^2 + y$ or $$a$$", "costs $5 and US 7, x^2 + y or a"),
    (r"so \(a \times b\) and \[\frac{1}{2} \foo\] is", "so a × b and 1/2 is"),
    (r"a \* b \_ c C:\Users {x} \ d\é", r"a * b _ c C:\Users {x} d\é"),
    ("Great 😀! Job 👨‍👩‍👧 done 👍🏽. 🇩🇪 Yes", "Great!|Job done.|Yes"),
    ("1️⃣ One ℹ️ ✅ A → B © 20 °C", "1 One A B © 20 °C"),
    ("a\x00b\u200bc क्\u200dष e\u0301 \ud83d \ude00", "abc क्\u200dष e\u0301"),
    ("so ([1]) and (😀) it is", "so and it is"),
    ("a | b || c |d|", "a, b, c, d."),
]  # fmt: skip

BLOCKS = [
    ("# Title\nText.", "Title.|Text."),
    ("## Is it so? ##\n### \nText", "Is it so?|Text"),
    ("#tag\n#######\nno", "#tag no"),
    ("Title\n=====\nText\n---\nMore", "Title.|Text.|More"),
    ("Do:\n\n- one\n* two, three\n+ four.\n• five\n•six\n– seven", "Do:|one.|two, three.|four.|five.|six.|seven."),
    ("- [ ] open\n- [x] done\n- **Bold**: yes", "open.|done.|Bold: yes."),
    ("1. First\n2) Second. And more\n10. Tenth", "1. First.|2. Second.|And more.|10. Tenth."),
    ("3 apples\n1999. Then\n12.05.2024 was", "3 apples.|1999.|Then.|12.05.2024 was"),
    ("- one\n  1. nested\n     - deep", "one.|1. nested.|deep."),
    ("-5 degrees\n--- so\n*** a\n***b***", "-5 degrees.|so.|a b"),
    ("> quoted\n> text\n\nplain\n> more", "quoted text.|plain.|more"),
    ("One\n\n---\n\n***\n___\nTwo", "One.|Two"),
    ("A line\nthat goes on", "A line that goes on"),
    ("Roses are red,\nViolets are blue\nSugar is sweet", "Roses are red, Violets are blue.|Sugar is sweet"),
    ("This line is longer than what anybody would break by hand in the\nMiddle of it", "This line is longer than what anybody would break by hand in the Middle of it"),
    ("你好\n世界\n\n再见", "你好。|世界。|再见"),
    ("(One)\n\n“Two”\n\n5 %\n\nYes:\n\nOK", "(One).|“Two”.|5 %.|Yes:|OK"),
    ("| Name | Age |\n|:-----|----:|\n| Ada | 36 |\n| | 7 |\n\nDone.", "Name, Age.|Ada, 36.|7.|Done."),
    ("Name | Age\n--- | ---\nAda | 36\n\nDone.", "Name, Age.|Ada, 36.|Done."),
    ("Code:\n```python\nprint('a. b')\n```\nDone.", "Code:|Done."),
    ("Code: ```py\nx\n```\nDone.", "Code:|Done."),
    ("~~~ sh\nls\n~~~~\nDone.", "Done."),
    ("- item\n  ````\n  ```\n  x ````\n  ````\n- two", "item.|two."),
    ("> ```\n> x\n> ```\nDone.", "Done."),
    ("```\nnever closed", ""),
    ("Done. ```py", "Done."),
    ("Done. ```\nx\n```", "Done."),
    ("``` some `code` here", "some code here"),
    ("a ```" + "b" * 120 + " c", "a " + "b" * 120 + " c"),
    ("<think>Hm. No.\n\n- a</think>\n\n# Yes\nGood", "Yes.|Good"),
    ("One <THINK>no</Think> two <think/> three </think> four", "One two three four"),
    ("One <thinking>never closed. At all", "One"),
    ("<style>a</style>- b\r\n\r\nc\r\n", "b.|c"),
    ("a\r\n---\r\n```\r\nx\r\n```\r\nb", "a.|b"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "spoken"), INLINE)
def test_marks_inside_a_line_are_not_read(text: str, spoken: str) -> None:
    assert said(text) == spoken


@pytest.mark.parametrize(("text", "spoken"), BLOCKS)
def test_a_line_is_read_as_what_it_is(text: str, spoken: str) -> None:
    assert said(text) == spoken


def test_a_mark_that_touches_a_piece_is_part_of_it() -> None:
    cutter = SpeechCutter()
    pieces = (
        cutter.feed("1. **Open** `main.py`\n2. See [it](https://a.b/c).[1] And <b>run.</b> So\n\n")
        + cutter.close()
    )
    assert [piece.source for piece in pieces] == [
        "1. **Open** `main.py`",
        "\n2. See [it](https://a.b/c).[1]",
        " And <b>run.</b>",
        " So",
    ]


@pytest.mark.parametrize(
    "opened", ["[", "[1, ", "*", "**", "_", "`", "<a ", "&a", "$", "(", '"', "](", "【1"]
)
def test_what_is_never_closed_holds_nothing_back_past_the_line(opened: str) -> None:
    cutter = SpeechCutter(early=False)
    found = cutter.feed(f"one {opened}two\n\nThree is here. F")
    assert [piece.text for piece in found][-1] == "Three is here."
    assert "two" in found[0].text or opened == "]("


def test_a_whole_answer_is_read_as_a_person_would_read_it() -> None:
    answer = (
        "Sure! Here's a quick overview of **Kubernetes**:\n\n### Key concepts\n\n1. **Pods** – the smallest unit. They run "
        "containers.\n2. **Services**: expose pods (e.g. via `ClusterIP`) [1].\n\nRun:\n```bash\nkubectl get pods\n```\n\n"
        "Let me know if you'd like more! 😊"
    )
    assert said(answer).split("|") == [
        "Sure!",
        "Here's a quick overview of Kubernetes:",
        "Key concepts.",
        "1. Pods – the smallest unit.",
        "They run containers.",
        "2. Services: expose pods (e.g. via ClusterIP).",
        "Run:",
        "Let me know if you'd like more!",
    ]
