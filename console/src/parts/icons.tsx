const PATHS = {
  search: "M11 4a7 7 0 1 0 0 14 7 7 0 0 0 0-14Zm5.2 12.2L21 21",
  picture: "M4 5h16v14H4zM4 16l5-5 4 4 2.5-2.5L20 17M15.5 9.5h.01",
  star: "m12 3.6 2.6 5.3 5.8.8-4.2 4.1 1 5.8-5.2-2.8-5.2 2.8 1-5.8L3.600 9.700l5.8-.8Z",
  close: "M6 6l12 12M18 6 6 18",
  down: "m7 10 5 5 5-5",
  like: "M4 4h10v10H4zM10 18v2h10V10h-2",
  part: "M4 8V4h4M16 4h4v4M20 16v4h-4M8 20H4v-4M9 9h6v6H9z",
  link: "M10 14a4 4 0 0 0 5.7 0l3-3A4 4 0 0 0 13 5.300l-.8.8M14 10a4 4 0 0 0-5.700 0l-3 3A4 4 0 0 0 11 18.700l.8-.8",
  play: "M8 5.500v13l11-6.500Z",
  pause: "M8 5v14M16 5v14",
  left: "m14 6-6 6 6 6",
  right: "m10 6 6 6-6 6",
  menu: "M4 7h16M4 12h16M4 17h16",
  minus: "M5 12h14",
  plus: "M5 12h14M12 5v14",
  copy: "M8 8h11v12H8zM5 16V4h11",
  check: "m5 12.500 4.500 4.500L19 7.500",
  warning: "M12 4 2.500 20h19ZM12 10v5M12 17.500h.01",
  box: "M5 5h14v14H5z",
  all: "M4 12h16M4 8v8M20 8v8",
} as const;

export type IconName = keyof typeof PATHS;

/** A picture beside words, or in a button that has a name: screen readers pass over it. */
export function Icon({ name, filled = false }: { name: IconName; filled?: boolean }) {
  return (
    <svg class={filled ? "icon filled" : "icon"} viewBox="0 0 24 24" aria-hidden="true" focusable="false">
      <path d={PATHS[name]} />
    </svg>
  );
}
