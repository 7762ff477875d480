"""What stands around a prompt is what the model's own chat template writes."""

from __future__ import annotations

from datetime import datetime, tzinfo

import pytest
from test_pretrained import byte_level, pieces
from tokenizers import AddedToken
from transformers import PreTrainedTokenizerFast
from transformers.utils import chat_template_utils

from dp_train.models.build import Architecture
from dp_train.models.frames import frame, line_break
from dp_train.models.tokenizer import MESSAGE, SUMMARY

LLAMA_3 = (
    "{{- bos_token }}{%- if not date_string is defined %}{%- set date_string = strftime_now('%d %b %Y') %}{%- endif %}"
    "{%- if messages[0]['role'] == 'system' %}{%- set system = messages[0]['content']|trim %}"
    "{%- set messages = messages[1:] %}{%- else %}{%- set system = '' %}{%- endif %}"
    "{{- '<|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\nToday Date: ' }}"
    "{{- date_string + '\n\n' + system + '<|eot_id|>' }}"
    "{%- for m in messages %}{{- '<|start_header_id|>' + m['role'] + '<|end_header_id|>\n\n' }}"
    "{{- m['content'] | trim + '<|eot_id|>' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{%- endif %}"
)
GEMMA = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    "{% for m in messages %}{{ '<start_of_turn>' + ('model' if m['role'] == 'assistant' else m['role']) + '\n' }}"
    "{{ m['content'] | trim + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
MISTRAL = (
    "{{ bos_token }}{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}{% if m['role'] == 'user' %}"
    "{{ '[INST] ' + m['content'] + ' [/INST]' }}{% else %}{{ m['content'] + eos_token }}{% endif %}{% endfor %}"
)
PHI = (
    "{% for m in messages %}{{ '<|' + m['role'] + '|>\n' + m['content'] + '<|end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)
CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
QWEN = (
    "{%- if messages[0]['role'] == 'system' %}{{- '<|im_start|>system\n' + messages[0]['content'] + '<|im_end|>\n' }}"
    "{%- else %}{{- '<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant."
    "<|im_end|>\n' }}{%- endif %}{%- for m in messages %}{%- if m['role'] != 'system' %}"
    "{{- '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{%- endif %}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}"
)
SMOLLM_2 = (
    "{% for m in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n' }}"
    "{% endif %}{{'<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
TEMPLATES = {
    "llama-3": (LLAMA_3, "<|begin_of_text|>"),
    "gemma": (GEMMA, "<bos>"),
    "mistral": (MISTRAL, "<s>"),
    "phi": (PHI, None),
    "chatml": (CHATML, None),
    "qwen": (QWEN, None),
    "smollm2": (SMOLLM_2, None),
}
CONTROL = (
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
    "<start_of_turn>",
    "<end_of_turn>",
    "<|im_start|>",
    "<|im_end|>",
    "<|user|>",
    "<|assistant|>",
)
WORDS = "the plan stands"


def tokenizer_with(name: str) -> PreTrainedTokenizerFast:
    template, begin = TEMPLATES[name]
    tokenizer = byte_level()
    tokenizer.add_tokens([AddedToken(token, special=True) for token in CONTROL])
    tokenizer.pad_token = "<|end|>"
    tokenizer.chat_template = template
    if begin is not None:
        tokenizer.add_special_tokens({"bos_token": begin})
    return tokenizer


@pytest.mark.parametrize("marker", [SUMMARY, MESSAGE])
@pytest.mark.parametrize("name", TEMPLATES)
def test_a_frame_and_words_are_a_prefix_of_what_the_template_writes(name: str, marker: str) -> None:
    tokenizer = tokenizer_with(name)
    found = frame(tokenizer, Architecture.DECODER, marker)
    asked = "Summarize this meeting in a few sentences.\n\n" if marker == SUMMARY else ""
    user = {"role": "user", "content": asked + WORDS}
    texts = []
    for turns in ([user], [{"role": "system", "content": ""}, user]):
        if len(turns) == 1 or name not in ("gemma", "mistral"):
            options = {"date_string": "26 Jul 2024", "add_generation_prompt": marker == SUMMARY}
            texts.append(tokenizer.apply_chat_template(turns, tokenize=False, **options))
    after = found.after if marker == SUMMARY else ()
    whole = tokenizer.decode([*found.before, *tokenizer.encode(WORDS), *after])
    assert any(text.startswith(whole) for text in texts), whole


@pytest.mark.parametrize("marker", [SUMMARY, MESSAGE])
@pytest.mark.parametrize("name", TEMPLATES)
def test_the_begin_token_stands_once_where_the_template_or_the_tokenizer_has_it(name: str, marker: str) -> None:
    tokenizer = tokenizer_with(name)
    found = frame(tokenizer, Architecture.DECODER, marker)
    if TEMPLATES[name][1] is not None:
        assert found.before[0] == tokenizer.bos_token_id
        assert found.before.count(tokenizer.bos_token_id) == 1


@pytest.mark.parametrize("name", ["qwen", "smollm2"])
def test_no_default_system_prompt_stands_in_a_frame(name: str) -> None:
    tokenizer = tokenizer_with(name)
    for marker in (SUMMARY, MESSAGE):
        assert "assistant" not in tokenizer.decode(frame(tokenizer, Architecture.DECODER, marker).before)


def test_a_frame_is_the_same_on_another_day(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = tokenizer_with("llama-3")
    today = frame(tokenizer, Architecture.DECODER, SUMMARY)

    class Later(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Later:
            return cls(2031, 1, 1)

    monkeypatch.setattr(chat_template_utils, "datetime", Later)
    assert frame(tokenizer, Architecture.DECODER, SUMMARY) == today


def test_turns_stay_apart_where_a_tokenizer_drops_new_lines() -> None:
    assert line_break(byte_level()) == "\n"
    tokenizer = pieces()
    tokenizer.add_tokens(["|", "▁"])  # as T5's vocabulary has them
    apart = tokenizer.encode(f"a{line_break(tokenizer)}a", add_special_tokens=False)
    assert apart != tokenizer.encode("a a", add_special_tokens=False)
    assert tokenizer.unk_token_id not in apart
