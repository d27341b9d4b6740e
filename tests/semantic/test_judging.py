"""Pairs of answers by the rules and the model that is built in: what they decide is right, and most they decide."""

import pytest

from sentinel_gateway.core.judging import Case
from sentinel_gateway.embedders.local import LocalLimits
from sentinel_gateway.embedders.minilm import open_minilm
from sentinel_gateway.pipeline.judging import Judge

SAME = [
    ("The capital of France is Paris.", "Paris is the capital of France."),
    ("Paris.", "The capital of France is Paris."),
    ("You can reset your password by clicking 'Forgot password' on the sign-in page and following the link that we email you.",
     "To reset your password, click 'Forgot password' on the sign-in page and follow the link in the email we send you."),
    ("2 + 2 equals 4.", "The answer is 4."),
    ("Water boils at 100 degrees Celsius at sea level.", "At sea level, water boils at 100 °C."),
    ("Photosynthesis is the process by which plants convert sunlight, water and carbon dioxide into glucose and oxygen.",
     "Photosynthesis is how plants turn light, water, and carbon dioxide into sugar and oxygen."),
    ("No, you cannot use your card abroad before it has been activated.",
     "You can't use your card abroad until it has been activated."),
    ("Your card usually arrives within 5 business days.", "It usually takes 5 business days for your card to arrive."),
    ("To make tea, boil water, pour it over the tea leaves, and let it steep for three to five minutes.",
     "Boil water, pour it over tea leaves and let it steep for 3 to 5 minutes."),
    ("The Great Wall of China was built mainly during the Ming dynasty.",
     "Most of the Great Wall of China was built during the Ming dynasty."),
]  # fmt: skip
DIFFERENT = [
    ("The capital of France is Paris.", "The capital of Peru is Lima."),
    ("It takes 5 days.", "It takes 7 days."),
    ("Your card usually arrives within 5 business days.", "A transfer usually arrives within 2 business days."),
    ("Yes, it is legal.", "No, it is not legal."),
    ("Yes, the earth is round.", "No, the earth is not flat."),
    ("To reset your password, click 'Forgot password' on the sign-in page.",
     "To change your email address, open Settings and choose Account."),
    ("Boil the pasta for ten minutes in salted water.", "Mitochondria produce most of the energy of a cell."),
    ("You can buy shares through your broker's app.", "You can sell shares through your broker's app."),
    ("Water boils at 100 degrees Celsius at sea level.", "Water freezes at 0 degrees Celsius at sea level."),
    ("Cancel the card in the app under Cards.", "Order a new card in the app under Cards."),
    ("Barack Obama was the 44th president of the United States.", "Donald Trump was the 45th president of the United States."),
    ("You should take this medicine before meals.", "You should take this medicine after meals."),
]  # fmt: skip


@pytest.mark.anyio
async def test_what_is_decided_is_decided_rightly() -> None:
    embedder = await open_minilm(limits=LocalLimits(deadline=20), on_event=print)
    judge, decided = Judge(embedder, None), 0
    for same, pairs in ((True, SAME), (False, DIFFERENT)):
        for fresh, stored in pairs:
            told = await judge.compare(Case("?", fresh, stored))
            assert told in {same, None}, (fresh, stored)
            decided += told is not None
    await embedder.close()
    assert (len(SAME) + len(DIFFERENT), decided) == (22, 13), "as docs/decisions/022 tells"
