"""The known texts of failed predictions, what they mean, and where they were seen. All of them stand in this table.

A text is read sentence by sentence, in lower case and with `camelCase` as `camel_case`. The first row that matches any
sentence decides. Codes come first, because a code says more than the words around it. Refusals of content come before
other failures, because they too say "please try again".

Some rows match a kind of word instead of one model's phrase, because every model words its refusals differently. They
skip a sentence that speaks of a fault: a moderation service can be down, and a checker can fail to load.
"""

from __future__ import annotations

import re

from reactor.errors import ContentPolicyError, GenerationError, PermanentError, TransientError

MOST_READ = 4000  # characters of a text

# The texts are not ours, so no pattern repeats anything without a bound: a text could stall the worker.
_FAULT = (
    r"(?:not|n't|unable to|fail(?:s|ed|ure|ing)? to) (?:be )?"
    r"(?:load|download|reach|connect|import|initiali|start|open|find|fetch)"
    r"|not (?:found|available|installed|running)|no such file|missing|unavailable|unreachable|overload|high demand"
    r"|time[ds]?[ -]?out|connection|too many requests|rate[ -]limit|quota|exceed|too (?:long|large|short|small)"
    r"|cuda|memory|weights|(?:key|attribute|import|not_found|type)_error|traceback|\.(?:py|pth?|safetensors|so)\b"
    r"|api[ _-]?key|credential|unauthori[sz]ed|authenticat|blocked from access|internal (?:server )?error"
    r"|(?:account|resource|subscription|organi[sz]ation) (?:has been|is|was)\b"
    r"|(?:status|code|http|error)\W{0,3}5\d\d\b|\b5\d\d (?:internal|bad|service|gateway)"
    r"|(?:cors|security|network|billing|retention|retry|disk|scaling|pull) polic|(?:thread|type|memory)[ -]safety"
    r"|must be|is required|case[ -]sensitive|content[ -](?:type|length|encoding)|violations\W{0,3}\[\]"
    r"|\b(?:sizes?|shapes?|dimensions?|width|height|resolution|pixels?|na_?n|gated|licen[sc]e|limits?|429)\b"
    r"|per (?:second|minute|hour|day)|access (?:to|denied)|accept the|billing|payment|balance"
)
_MODERATION = (
    r"moderat(?:ion|ors?)(?![a-z])|responsible[ _]ai|guardrails?|risk control|community (?:standards|guidelines)"
    r"|(?<![a-z])safety[ _-](?:system|filter|check|polic|guideline|violation|reason|standard|rule|review|concern)"
    r"|content[ _-](?:management[ _-])?(?:polic|filter|check|guideline|rule|restriction|standard|safety|violation)"
    r"|(?:usage|acceptable use|prohibited use|our)[ _](?:[a-z]{1,20}[ _]){0,2}(?:polic|guideline|terms)"
    r"|terms of (?:use|service)|(?:sensitive|inappropriate|objectionable|disallowed|prohibited|forbidden|unsafe"
    r"|harmful|explicit|illegal|offensive|restricted)[ _](?:content|material|words?|text|images?|information|topics?"
    r"|prompts?|language)"
    r"|(?<![a-z])(?:nudity|sexual|erotic|porn|gore|violen(?:ce|t)|hate speech|self[ -]harm|copyright|infring)"
)
_REFUSING = (
    r"(?<![a-z])(?:reject(?:ed|s)|block(?:ed|s)|flag(?:ged|s)|violat|refus(?:ed|es|al)|declin(?:ed|es)|denied|banned"
    r"|disallow|filtered|detected|trigger|against|conflict|contain|infring|suspected)"
    r"|not (?:be )?(?:allow|permit|pass|compl|respect|generat|creat)|n't pass"
    r"|fail(?:s|ed|ure)? (?:to pass|to comply|the|our)"
)
_OF_THE_PROMPT = (
    r"\bprompts?\b.{0,60}\b(?:rejected|blocked|refused|banned|flagged|disallowed|prohibited|unsafe|inappropriate"
    r"|violat\w{0,4}|not (?:be )?(?:allowed|permitted))\b"
)
_BECAUSE = r"reason\W{1,4}(?:\w{1,40}\.)?|blocked due to "
_FINISH = r"(?:safety|recitation|blocklist|spii)"
_DOING = r"(?:create|generate|make|produce|draw|help|assist|fulfil)"

POLICY, TRANSIENT, PERMANENT = ContentPolicyError, TransientError, PermanentError
_TEXTS: tuple[tuple[str | tuple[str, ...], type[GenerationError], str], ...] = (
    # a pattern that decides alone, or several that must all match a sentence without a fault; class; where it was seen
    (r"\(e005\)", POLICY, "flux-2, seedream, seedance: moderation, from the wrapper that proxied models share"),
    (r"\(e00[1-4]\)", TRANSIENT, "the same wrapper: Replicate's credit, key or rate limit there, or an outage"),
    (r"\(e1001\)", PERMANENT, "Director, documented: the model ran out of memory on this input"),
    (r"\(e4875\)", PERMANENT, "Director, documented: internal webhook URL empty"),
    (r"\(e\d{4}\)", TRANSIENT, "Director: the platform's own errors, E9828 E6716 E8765 E9243 E1000"),
    (r"\(code: pa\)|interrupted; please retry", TRANSIENT, "all models: preemption"),
    ((r"(?<![a-z])nsfw(?![a-z])",), POLICY, "flux, SDXL, Stable Diffusion: safety checker; resellers: NSFW_CONTENT"),
    (r"flagged as sensitive", POLICY, "seedance and others: moderation without its code"),
    (r"content[ _]?moderation[ _]?error|content flagged", POLICY, "seedream, seedance"),
    (r"copyright restrictions", POLICY, "seedance-2.0-mini"),
    (r"data_inspection_failed", POLICY, "Alibaba models: Green net check"),
    (r"could not process with this prompt", POLICY, "Happy Horse"),
    (r"(?:request|content)[ _]moderated", POLICY, "Black Forest Labs' own API"),
    ((r"moderation failed",), POLICY, "Luma: advanced moderation"),
    (r"invalid prompts? detected|banned prompt", POLICY, "Stability's first API; Midjourney and its proxies"),
    ((r"new_sensitive|\b(?:text|image) (?:is )?sensitive",), POLICY, "MiniMax, Hailuo: 1026 input, 1027 output"),
    (
        r"sensitive_content_detected|(?:text|image|video)_(?:risk|illegal)_detect",
        POLICY,
        "Volcengine's Seedream, Tencent's Hunyuan: error codes",
    ),
    (
        rf"(?:image_safety|image_recitation|prohibited_content|(?:{_BECAUSE}){_FINISH})\b",
        POLICY,
        "Gemini, nano-banana: finish and block reasons",
    ),
    (r"unsafe_generation|\bsafety\.(?:input|output)|preprocessing\.safety", POLICY, "Google Flow; Runway: codes"),
    ((r"content_(?:filter|policy)(?:ed|_violation)?(?![a-z_])",), POLICY, "OpenAI, Azure, litellm: codes"),
    (r"blocked due to security configurations", POLICY, "Cloudflare's AI Gateway: guardrails, 2016 and 2017"),
    (
        (r"\b(?:celebrit(?:y|ies)|(?:public|prominent) (?:figures?|people|persons?))\b",),
        POLICY,
        "Imagen, Veo, Firefly: people who must not be shown",
    ),
    (
        (rf"\bi(?:'m| am) (?:sorry|unable|not able)\b.{{0,80}}\b{_DOING}|\bi (?:can'?t|cannot|won't) {_DOING}",),
        POLICY,
        "Gemini and GPT models, which refuse in the first person",
    ),
    (
        r"(?<!大小写)敏感|违规|違規|违禁|[未不]通[过過].{0,6}[审審]核|[审審]核[未不]通[过過]",
        POLICY,
        "Kling, MiniMax, Qwen, Seedream, in Chinese: sensitive, against the rules, not passed",
    ),
    ((_OF_THE_PROMPT,), POLICY, "by kind of word, a refusal of the prompt: Recraft, Leonardo, Bria and others"),
    (
        (_MODERATION, _REFUSING),
        POLICY,
        "by kind of word: OpenAI, Azure, Imagen, Bedrock, Stability, xAI, fal, Kling, Ideogram, Leonardo, Sora",
    ),
    (r"exceptions must derive from base_exception", PERMANENT, "sadtalker"),
    (r"must be a multiple of", PERMANENT, "SD family: width and height"),
    (r"cuda out of memory", PERMANENT, "community models, large inputs"),
    (r"\bread_error\b", TRANSIENT, "seedance-2.0-mini"),
    (r"key_error: 'sample'", TRANSIENT, "flux-2-pro"),
    (r"illegal memory access", TRANSIENT, "llama: a sick worker"),
    (r"internal error", TRANSIENT, "one production client's list"),
)
_Row = tuple[tuple[re.Pattern[str], ...], bool, type[GenerationError]]
_KNOWN: tuple[_Row, ...] = tuple(
    (tuple(map(re.compile, [given] if isinstance(given, str) else given)), isinstance(given, str), kind)
    for given, kind, _ in _TEXTS
)
_SPEAKS_OF_A_FAULT = re.compile(_FAULT)
_MOST_SENTENCES = 100  # the rest counts as one
_SENTENCE_END = re.compile(r"(?<=[.!?;])\s+|\n")
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


def classify_text(text: str) -> type[GenerationError] | None:
    """The class that the table gives to a text; None if no row matches."""
    return _classified(text, _KNOWN)


def _classified(text: str, rows: tuple[_Row, ...]) -> type[GenerationError] | None:
    sentences = _sentences(text)
    faultless = [sentence for sentence in sentences if not _SPEAKS_OF_A_FAULT.search(sentence)]
    for patterns, decides_alone, kind in rows:
        for sentence in sentences if decides_alone else faultless:
            if all(pattern.search(sentence) for pattern in patterns):
                return kind
    return None


def refuses_content(text: str) -> bool:
    """Whether a text contains a refusal of content, whatever faults or codes it contains besides."""
    return any(
        all(pattern.search(sentence) for pattern in patterns)
        for patterns, _, kind in _KNOWN
        if kind is POLICY
        for sentence in _sentences(text)
    )


def _sentences(text: str) -> list[str]:
    return _SENTENCE_END.split(_CAMEL.sub("_", text[:MOST_READ]).lower(), _MOST_SENTENCES)
