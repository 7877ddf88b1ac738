// A moment's picture with the box drawn in it.

import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { t } from "../i18n";
import { boxToDraw, take, type Picture } from "../pictures";
import type { Box, Hit } from "../types";

export interface Seen {
  picture: Picture;
  width: number;
  height: number;
}

interface Props {
  moment: string;
  at: number;
  box?: Box | null;
  alt: string;
  /** Load it also when it is not on the screen yet. */
  eager?: boolean;
  weak?: boolean;
  onSeen?: (seen: Seen | null) => void;
  children?: ComponentChildren;
}

export function MomentPicture({ moment, at, box = null, alt, eager = false, weak = false, onSeen, children }: Props) {
  const own = useRef<HTMLDivElement>(null);
  const [near, setNear] = useState(eager);
  const [picture, setPicture] = useState<Picture | null>(null);
  const [size, setSize] = useState<[number, number] | null>(null);
  const [missing, setMissing] = useState(false);

  useEffect(() => {
    if (near) return undefined;
    const watch = new IntersectionObserver((seen) => seen.some((one) => one.isIntersecting) && setNear(true), {
      rootMargin: "300px",
    });
    watch.observe(own.current!);
    return () => watch.disconnect();
  }, [near]);

  useEffect(() => {
    if (!near) return undefined;
    let gone = false;
    setPicture(null);
    setSize(null);
    setMissing(false);
    const [coming, giveBack] = take(moment, at);
    coming.then(
      (come) => !gone && setPicture(come),
      () => !gone && setMissing(true),
    );
    return () => {
      gone = true;
      giveBack();
    };
  }, [near, moment, at]);

  useEffect(() => {
    onSeen?.(picture && size ? { picture, width: size[0], height: size[1] } : null);
  }, [picture, size]);

  const drawn = box && picture && size ? boxToDraw(box, at, picture.at) : null;
  return (
    <div ref={own} class={`picture${weak ? " weak" : ""}${size || missing ? "" : " waiting"}`}>
      {picture && !missing && (
        <img
          src={picture.url}
          alt={alt}
          draggable={false}
          onLoad={(event) => setSize([event.currentTarget.naturalWidth, event.currentTarget.naturalHeight])}
          onError={() => setMissing(true)}
        />
      )}
      {missing && <p class="no-picture">{t("picture.none")}</p>}
      {size && (
        <svg class="marks" viewBox={`0 0 ${size[0]} ${size[1]}`} preserveAspectRatio="xMidYMid meet" aria-hidden="true">
          {drawn && <BoxMark box={drawn} width={size[0]} height={size[1]} />}
        </svg>
      )}
      {children}
    </div>
  );
}

/** Something tiny gets a larger box, so that it is seen at all. */
const LEAST = 0.04;

function BoxMark({ box, width, height }: { box: Box; width: number; height: number }) {
  const wide = Math.max(box.right - box.left, LEAST);
  const high = Math.max(box.bottom - box.top, LEAST);
  const left = Math.min(Math.max(0, (box.left + box.right - wide) / 2), 1 - wide);
  const top = Math.min(Math.max(0, (box.top + box.bottom - high) / 2), 1 - high);
  const sides = { x: left * width, y: top * height, width: wide * width, height: high * height };
  return (
    <g class="box-mark">
      <rect class="below" {...sides} />
      <rect class="above" {...sides} />
    </g>
  );
}

export function momentAlt(hit: Hit, time: string): string {
  return t("picture.alt", { camera: hit.camera, time });
}
